//! How many leases of an environment count against its limit.

/// In SQL: the number of leases of an environment of a company that are active, or of a status that this version does not know:
/// whoever has written it may well hold what it names. Each range between the known words is read by the index on (company_id,
/// environment_id, status), so that the rows that have ended are not.
macro_rules! occupied {
    ($company:literal, $environment:literal) => {
        concat!(
            "(SELECT count(*) FROM public.environment_leases AS l WHERE l.company_id = ",
            $company,
            " AND l.environment_id = ",
            $environment,
            " AND l.status <= 'active') + (SELECT count(*) FROM public.environment_leases AS l WHERE l.company_id = ",
            $company,
            " AND l.environment_id = ",
            $environment,
            " AND l.status > 'retained') + (SELECT count(*) FROM (VALUES ('active', 'expired'), ('expired', 'failed'), \
             ('failed', 'pending_cleanup'), ('pending_cleanup', 'released'), ('released', 'retained')) AS known(low, high) \
             CROSS JOIN LATERAL (SELECT FROM public.environment_leases AS l WHERE l.company_id = ",
            $company,
            " AND l.environment_id = ",
            $environment,
            " AND l.status > known.low AND l.status < known.high) AS unknown)"
        )
    };
}

pub(super) use occupied;

#[cfg(test)]
mod tests {
    use strum::VariantArray as _;

    use crate::lifecycle::LeaseState;

    #[test]
    fn every_status_that_is_known_is_the_end_of_a_range() {
        let mut known: Vec<&str> = LeaseState::VARIANTS.iter().map(|state| state.into_str()).collect();
        known.sort_unstable();
        let ranges: Vec<String> = known
            .windows(2)
            .map(|pair| format!("('{}', '{}')", pair[0], pair[1]))
            .collect();
        let statement = occupied!("$1", "$2");
        assert!(statement.contains(&ranges.join(", ")), "{statement}");
        assert!(statement.contains(&format!("<= '{}'", known[0])));
        assert!(statement.contains(&format!("> '{}'", known[known.len() - 1])));
    }
}
