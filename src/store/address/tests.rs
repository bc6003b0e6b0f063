use super::*;

const SECRET: &str = "hunter2secret";

fn read(url: &str) -> Address {
    url.parse().unwrap_or_else(|error| panic!("{url}: {error}"))
}

fn refusal(url: &str) -> String {
    match url.parse::<Address>() {
        Ok(address) => panic!("{url} is read as {address}"),
        Err(error) => error.to_string(),
    }
}

/// Host and port of each.
fn places(url: &str) -> Vec<String> {
    read(url).hosts().map(|(_, host)| host.name.clone()).collect()
}

/// What the driver is told of the first host, secrets included.
fn told(url: &str) -> String {
    format!("{:?}", read(url).hosts[0].options)
}

#[test]
fn a_host_is_a_name_an_address_of_either_family_or_the_folder_of_a_socket() {
    assert_eq!(places("postgres://me@db/x"), ["db:5432"]);
    assert_eq!(places("postgresql://me@db:6000/x"), ["db:6000"]);
    assert_eq!(places("postgres://me:pw@10.0.0.1:5433"), ["10.0.0.1:5433"]);
    assert_eq!(places("postgres://me@[::1]:5433/x"), ["[::1]:5433"]);
    assert_eq!(places("postgres://me@[fd00::7]/x"), ["[fd00::7]:5432"]);
    assert_eq!(places("postgres://me@/x?host=/run/postgresql"), ["/run/postgresql"]);
    assert_eq!(places("postgres://me@%2Frun%2Fpostgresql/x"), ["/run/postgresql"]);
    assert_eq!(places("postgres://me@/x?hostaddr=::1&port=6000"), ["[::1]:6000"]);
    let options = told("postgres://me@[::1]:5433/x");
    assert!(options.contains(r#"host: "::1""#), "{options}");
    assert!(told("postgres://me@/x?host=/run/pg").contains(r#"socket: Some("/run/pg")"#));
}

#[test]
fn several_hosts_have_a_port_each_or_share_one_and_the_last_that_answered_is_tried_first() {
    let url = "postgres://me@one:5433,two,[::1]:5435/x?target_session_attrs=read-write";
    assert_eq!(places(url), ["one:5433", "two:5432", "[::1]:5435"]);
    assert_eq!(places("postgres://me@one,two/x?port=6000"), ["one:6000", "two:6000"]);
    assert_eq!(
        places("postgres://me@/x?host=one,two&port=6000,6001"),
        ["one:6000", "two:6001"]
    );
    assert!(refusal("postgres://me@one,two,three/x?port=1,2").contains("3 hosts and 2 ports"));

    let address = read(url);
    address.clone().answered(2);
    let names: Vec<_> = address.hosts().map(|(_, host)| host.name.as_str()).collect();
    assert_eq!(names, ["[::1]:5435", "one:5433", "two:5432"]);
    assert_eq!(
        address.to_string(),
        "one:5433,two:5432,[::1]:5435/x",
        "always told alike"
    );
}

#[test]
fn credentials_are_decoded_and_may_hold_what_can_still_be_told_apart() {
    for (url, password) in [
        ("postgres://me:p%40ss%2Fword%25@db/x", "p@ss/word%"),
        ("postgres://me:a+b@db/x", "a+b"),
        ("postgres://me:a?b@db/x", "a?b"),
        ("postgres://me:a&b=c@db/x", "a&b=c"),
        ("postgres://me:a#b@db/x", "a#b"),
        ("postgres://me:a@b@db/x", "a@b"),
        ("postgres://me:a:b@db/x", "a:b"),
        ("postgres://me:100%@db/x", "100%"),
        ("postgres://db/x?user=me&password=a+b%26", "a+b&"),
    ] {
        let told = told(url);
        assert!(told.contains(&format!("password: Some({password:?})")), "{url}: {told}");
        assert!(told.contains(r#"username: "me""#), "{url}: {told}");
        assert!(told.contains(r#"host: "db""#), "{url}: {told}");
    }
    assert!(told("postgres://db/x?user=me@server&password=y").contains(r#"username: "me@server""#));
}

#[test]
fn space_around_the_url_is_passed_over_and_a_line_break_within_it_is_told_of() {
    assert_eq!(places("\n postgres://me@db/x\n"), ["db:5432"]);
    for url in [
        "postgres://me:hunter2secret\n@db/x",
        "postgres://me:hunter2secret%0A@db/x",
        "postgres://db/x?user=me&password=hunter2secret%0A",
    ] {
        let sentence = refusal(url);
        assert!(sentence.contains("`echo`"), "{sentence}");
        assert!(!sentence.contains(SECRET), "{sentence}");
    }
}

#[test]
fn a_url_that_cannot_be_read_is_refused_with_a_sentence_and_never_quoted() {
    for (url, word) in [
        ("mysql://me:hunter2secret@db/x", "postgres://user"),
        ("host=db password=hunter2secret", "form of keywords"),
        ("dbname = x", "form of keywords"),
        ("", "it is empty: write postgres://user"),
        ("db:5432/hunter2secret", "does not begin with postgres://"),
        ("postgres://me:hunter2secret@db/x y", "line break or a space"),
        ("postgres://me:hunter2secret@db:port/x", "1 to 65535"),
        ("postgres://me:hunter2secret@db:0/x", "1 to 65535"),
        ("postgres://me:hunter2secret@[::1/x", "postgres://user"),
        ("postgres://me:hunter2secret@[db]/x", "IPv6"),
        ("postgres://me:hunter2secret/x@db/x", "%2F"),
        ("postgres://me:1/hunter2secret@db/x", "%2F"),
        ("postgres://me:1/x?hunter2secret@db/x", "%2F"),
        ("postgres://me:1/x?y=hunter2secret@db/x", "%2F"),
        ("postgres://me@db/x?hunter2secret", "%3F"),
        ("postgres://me@db/x?sslmode=hunter2secret", "sslmode is"),
        ("postgres://me@db/x?connect_timeout=hunter2secret", "number of seconds"),
        (
            "postgres://me@db/x?target_session_attrs=hunter2secret",
            "read-write or primary",
        ),
        ("postgres://me@db/x?target_session_attrs=standby", "the operator writes"),
        ("postgres://me@db/x?hostaddr=one&port=hunter2secret", "1 to 65535"),
        (
            "postgres://me@db/x?statement-cache-capacity=hunter2secret",
            "is a number",
        ),
        ("postgres://me:%FF@db/x", "UTF-8"),
        ("postgres://me:a%00b@db/x", "%00"),
    ] {
        let sentence = refusal(url);
        assert!(sentence.starts_with("DATABASE_URL cannot be used: "), "{sentence}");
        assert!(sentence.contains(word), "{url}: {sentence}");
        assert!(!sentence.contains(SECRET), "{sentence}");
    }
}

#[test]
fn a_parameter_without_effect_is_named_but_never_its_value_nor_what_may_be_a_piece_of_a_password() {
    for (parameter, told) in [
        ("sslpassword=hunter2secret", "sslpassword"),
        (
            "PASSWORD=hunter2secret",
            "PASSWORD (its name is written in small letters)",
        ),
        ("channel_binding=hunter2secret", "channel_binding"),
        ("passwort=hunter2secret", "passwort"),
        ("hunter2secret=1", "the parameter at place 1"),
        ("password=hun&ter=hunter2secret", "the parameter at place 2"),
    ] {
        let address = read(&format!("postgres://me@db/x?{parameter}"));
        assert_eq!(address.ignored(), [told], "{parameter}");
    }
    assert!(
        read("postgres://me@db/x?sslmode=require&application_name=a&options=-c%20geqo=off")
            .ignored()
            .is_empty()
    );
}

#[test]
fn no_way_of_printing_an_address_shows_a_credential() {
    let address = read("postgres://me:hunter2secret@db/x?sslpassword=hunter2secret&password=hunter2secret");
    assert_eq!(address.to_string(), "db:5432/x");
    assert_eq!(format!("{address:?}"), "Address(db:5432/x)");
}

#[test]
fn the_system_s_authorities_are_trusted_by_their_name_and_with_a_full_check_only() {
    let told = told("postgres://me@db/x?sslrootcert=system");
    assert!(
        told.contains("ssl_mode: VerifyFull") && !told.contains("\"system\""),
        "{told}"
    );
    assert!(refusal("postgres://me@db/x?sslrootcert=system&sslmode=require").contains("only sslmode=verify-full"));
    let file = read("postgres://me@db/x?sslrootcert=/ca.pem&sslmode=verify-ca");
    assert!(format!("{:?}", file.hosts[0].options).contains("/ca.pem"));
}

#[test]
fn a_host_s_time_is_what_the_url_says_within_limits() {
    let seconds = |url: &str| read(url).connect_timeout().as_secs();
    assert_eq!(seconds("postgres://me@db/x"), 5);
    assert_eq!(seconds("postgres://me@one,two/x"), 2);
    assert_eq!(seconds("postgres://me@one,two/x?connect_timeout=3"), 3);
    for longest in ["0", "-1", "60"] {
        assert_eq!(seconds(&format!("postgres://me@db/x?connect_timeout={longest}")), 10);
        assert_eq!(
            seconds(&format!("postgres://me@one,two/x?connect_timeout={longest}")),
            4,
            "two fit into the wait for a session"
        );
    }
}

#[test]
fn rounds_that_are_given_up_reach_every_host_in_full() {
    for hosts in 1..7 {
        let names: Vec<String> = (0..hosts).map(|number| format!("db{number}")).collect();
        // How many hosts a round reaches before it is given up at the last of them, which had the rest of the time only.
        for reached in 1..=hosts {
            let address = read(&format!("postgres://me@{}/x", names.join(",")));
            let mut in_full = std::collections::BTreeSet::<usize>::new();
            for _ in 0..2 * hosts {
                let round: Vec<usize> = address.hosts().map(|(index, _)| index).take(reached).collect();
                in_full.extend(&round[..(reached - 1).max(1)]);
                address.given_up(round[0], round[reached - 1]);
            }
            assert_eq!(in_full.len(), hosts, "{reached} of {hosts}");
        }
    }
    let address = read("postgres://me@one,two,three/x");
    address.answered(2);
    address.given_up(0, 0);
    assert_eq!(address.hosts().next().unwrap().0, 2, "another round has found one");
}
