//! What a log line looks like, and that it is one line.
//!
//! Most of what is logged comes from outside: names, messages of the API server, fields of specs. So every value is escaped
//! here, whatever its field and wherever it comes from: none can end the line, forge another one, colour a terminal or turn the
//! direction of a text around. And a JSON line has each key once: strict readers refuse the whole line otherwise.

use std::fmt;

use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::api::cut;
use crate::runtime::configuration::LogFormat;

/// The most bytes of one value.
const VALUE_BYTES: usize = 8 * 1024;

/// The keys that a line has of its own. No field is called so, neither one of ours (a test of the house) nor a library's.
const OWN: [&str; 4] = ["timestamp", "level", "message", "target"];

/// Writes events as lines.
pub(super) struct Lines(pub(super) LogFormat);

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'w> FormatFields<'w> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut values = Values::default();
        event.record(&mut values);
        let mut time = String::new();
        SystemTime.format_time(&mut Writer::new(&mut time))?;
        match self.0 {
            LogFormat::Text => text(writer, &time, event, &values),
            LogFormat::Json => json(writer, time, event, values),
        }
    }
}

/// The values of an event.
#[derive(Default)]
struct Values {
    message: String,
    fields: Vec<(&'static str, Value)>,
}

impl Values {
    fn take(&mut self, field: &Field, value: Value) {
        let value = match value {
            Value::String(text) => Value::String(cut(&text, VALUE_BYTES)),
            value => value,
        };
        match (field.name(), value) {
            ("message", Value::String(text)) if self.message.is_empty() => self.message = text,
            (name, value) => self.fields.push((name, value)),
        }
    }
}

impl Visit for Values {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.take(field, format!("{value:?}").into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.take(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.take(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.take(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.take(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.take(field, value.into());
    }
}

fn text(mut writer: Writer<'_>, time: &str, event: &Event<'_>, values: &Values) -> fmt::Result {
    let metadata = event.metadata();
    let (colour, plain) = match *metadata.level() {
        _ if !writer.has_ansi_escapes() => ("", ""),
        Level::ERROR => ("\x1b[31m", "\x1b[0m"),
        Level::WARN => ("\x1b[33m", "\x1b[0m"),
        Level::INFO => ("\x1b[32m", "\x1b[0m"),
        _ => ("\x1b[34m", "\x1b[0m"),
    };
    write!(
        writer,
        "{time} {colour}{:>5}{plain} {}: ",
        metadata.level(),
        metadata.target()
    )?;
    escape(&mut writer, &values.message, plainly)?;
    for (name, value) in &values.fields {
        write!(writer, " {name}=")?;
        match value {
            Value::String(word) if is_word(word) => writer.write_str(word)?,
            // In quotes, as JSON has them: where it ends is seen whatever it holds.
            value => escape(&mut writer, &value.to_string(), plainly)?,
        }
    }
    writeln!(writer)
}

fn json(mut writer: Writer<'_>, time: String, event: &Event<'_>, values: Values) -> fmt::Result {
    let metadata = event.metadata();
    let mut members = vec![
        ("timestamp".to_owned(), Value::from(time)),
        ("level".to_owned(), metadata.level().as_str().into()),
        ("message".to_owned(), values.message.into()),
    ];
    for (name, value) in values.fields {
        let taken = |name: &str| OWN.contains(&name) || members.iter().any(|(member, _)| member == name);
        let mut name = name.to_owned();
        while taken(&name) {
            name.push('_');
        }
        members.push((name, value));
    }
    members.push(("target".to_owned(), metadata.target().into()));
    let mut sign = '{';
    for (name, value) in members {
        writer.write_char(sign)?;
        escape(&mut writer, &format!("{}:{value}", Value::from(name)), as_json)?;
        sign = ',';
    }
    writeln!(writer, "}}")
}

/// Whether it is seen without quotes where a value ends.
fn is_word(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'=' | b'\\');
    !text.is_empty() && text.bytes().all(plain)
}

/// Writes a text, with `replace` for each character that would be taken for something else than a part of it.
fn escape(writer: &mut Writer<'_>, text: &str, replace: fn(&mut Writer<'_>, char) -> fmt::Result) -> fmt::Result {
    for character in text.chars() {
        if acts(character) {
            replace(writer, character)?;
        } else {
            writer.write_char(character)?;
        }
    }
    Ok(())
}

/// Whether a character does something: controls (of terminals too), ends of lines, marks of direction, what is not seen.
fn acts(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
                | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}'
        )
}

fn plainly(writer: &mut Writer<'_>, character: char) -> fmt::Result {
    write!(writer, "{}", character.escape_default())
}

fn as_json(writer: &mut Writer<'_>, character: char) -> fmt::Result {
    let mut units = [0; 2];
    let mut units = character.encode_utf16(&mut units).iter();
    units.try_for_each(|unit| write!(writer, "\\u{unit:04x}"))
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;

    use parking_lot::Mutex;
    use serde::de::{Deserializer as _, IgnoredAny, MapAccess, Visitor};
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    /// What does something to a terminal, a reader of lines or a reader of JSON, with a forged line in it.
    const HOSTILE: &str = "a\n2026-01-01T00:00:00Z  INFO forged: \r\u{b}\u{c}\u{0}\u{7}\u{8}\u{1b}[31m\u{7f}\u{85}\u{9b}31m\u{2028}\
                           \u{2029}\u{202e}\u{2066}\u{200f}\u{feff}\u{e0041}\",\"level\":\"x\\";

    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What is logged by `act`.
    fn logged(form: LogFormat, colours: bool, act: impl FnOnce()) -> String {
        let log = Log::default();
        let writer = log.clone();
        let lines = tracing_subscriber::fmt::layer()
            .with_ansi(colours)
            .event_format(Lines(form))
            .with_writer(move || writer.clone());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(lines), act);
        let bytes = log.0.lock().clone();
        String::from_utf8(bytes).unwrap()
    }

    fn hostile_event() {
        let error = io::Error::other(HOSTILE);
        tracing::warn!(
            plain = HOSTILE, shown = %HOSTILE, debugged = ?HOSTILE, %error, cause = &error as &dyn std::error::Error,
            number = 7, truth = true, share = 0.5, none = Option::<i64>::None,
            "begins: {HOSTILE}"
        );
    }

    /// The keys of a JSON line, as often as they are there.
    fn keys(line: &str) -> Vec<String> {
        struct Keys;
        impl<'de> Visitor<'de> for Keys {
            type Value = Vec<String>;
            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Vec<String>, A::Error> {
                let mut keys = Vec::new();
                while let Some((key, IgnoredAny)) = access.next_entry()? {
                    keys.push(key);
                }
                Ok(keys)
            }
        }
        serde_json::Deserializer::from_str(line).deserialize_map(Keys).unwrap()
    }

    #[test]
    fn no_value_of_any_field_ends_or_forges_a_line() {
        for form in [LogFormat::Text, LogFormat::Json] {
            let log = logged(form, false, hostile_event);
            let line = log.strip_suffix('\n').unwrap();
            let acting: Vec<char> = line.chars().filter(|character| acts(*character)).collect();
            assert!(acting.is_empty(), "{acting:?} in {line}");
            assert!(line.contains("begins: a"), "{line}");
        }
        let coloured = logged(LogFormat::Text, true, hostile_event);
        assert_eq!(coloured.matches('\u{1b}').count(), 2, "around the level: {coloured}");
    }

    #[test]
    fn a_json_line_has_each_key_once_and_every_value_to_the_letter() {
        let line = logged(LogFormat::Json, false, hostile_event);
        let value: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["message"], format!("begins: {HOSTILE}"));
        assert_eq!(
            (&value["level"], &value["plain"], &value["shown"]),
            (&"WARN".into(), &HOSTILE.into(), &HOSTILE.into())
        );
        assert_eq!(
            (&value["number"], &value["truth"], &value["share"]),
            (&7.into(), &true.into(), &0.5.into())
        );
        assert_eq!((&value["error"], &value["cause"]), (&HOSTILE.into(), &HOSTILE.into()));
        for act in [
            hostile_event as fn(),
            || tracing::info!(message = "one", level = 1, target = 2, timestamp = 3, level_ = 4, "two"),
            || tracing::info!(a = 1, a = 2),
        ] {
            let line = logged(LogFormat::Json, false, act);
            let mut keys = keys(&line);
            assert!(OWN.iter().all(|own| keys.iter().any(|key| key == own)), "{line}");
            let all = keys.len();
            keys.sort();
            keys.dedup();
            assert_eq!(keys.len(), all, "{line}");
        }
    }

    #[test]
    fn a_text_line_says_time_level_target_message_and_fields() {
        let line = logged(LogFormat::Text, false, || {
            tracing::info!(name = "x y", word = "a-b/c", count = 2, none = "", "it is so");
        });
        let (time, rest) = line.split_once("  INFO ").unwrap();
        assert!(time.parse::<jiff::Timestamp>().is_ok(), "{time}");
        assert_eq!(
            rest,
            format!(
                "{}: it is so name=\"x y\" word=a-b/c count=2 none=\"\"\n",
                module_path!()
            )
        );
    }

    #[test]
    fn a_value_of_any_length_is_cut() {
        let line = logged(LogFormat::Text, false, || {
            tracing::info!(long = "x".repeat(1_000_000), "it is so")
        });
        assert!(line.len() < VALUE_BYTES + 200, "{}", line.len());
    }
}
