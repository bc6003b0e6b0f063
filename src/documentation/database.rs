//! The settings of a session in `docs/database.md`, written from the code.

use super::agrees;
use crate::store::connection::{SETTINGS, Setting, Wanted};

#[test]
fn the_settings_of_a_session_are_documented_as_they_are() {
    let mut text = "| setting | value | why |\n|---|---|---|\n".to_owned();
    for Setting { name, wanted, why } in SETTINGS {
        let value = match wanted {
            Wanted::Is(value) => format!("`{value}`"),
            Wanted::By { work, migration } => format!("`{work}`; for migrations `{migration}`"),
            Wanted::Not(unwanted, instead) => format!("not `{unwanted}`, else `{instead}`"),
        };
        text += &format!("| `{name}` | {value} | {why} |\n");
    }
    agrees("docs/database.md", "session settings", &text);
}
