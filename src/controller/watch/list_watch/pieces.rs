//! Answers of any length, read piece by piece: the items of a list, the lines of a watch.
//!
//! A page of 500 objects may have 750 MB, of which a tenant may have written most. So no more than one object's text is held
//! at once; it is handed on, decoded and dropped.

use std::pin::pin;

use futures::{AsyncBufRead, AsyncBufReadExt as _};

use super::WatchError;

/// The most bytes of one object's text. The API server stores no larger ones: by default 1.5 MiB, of which every byte may take
/// six in JSON.
const OBJECT_BYTES: usize = 32 * 1024 * 1024;

/// The most bytes of a buffer that are kept from one object to the next.
const BUFFER_BYTES: usize = 64 * 1024;

/// Reads a list: each element of its `items` goes to `item`, and what is around them comes back, with no items.
pub(super) async fn items<E>(
    answer: impl AsyncBufRead,
    mut item: impl FnMut(&str) -> Result<(), E>,
) -> Result<String, WatchError>
where
    WatchError: From<E>,
{
    let mut answer = pin!(answer);
    let mut splitter = Splitter::default();
    loop {
        let chunk = answer.fill_buf().await.map_err(WatchError::Read)?;
        if chunk.is_empty() {
            return text(splitter.around);
        }
        let (taken, complete) = splitter.take(chunk)?;
        answer.as_mut().consume(taken);
        if complete {
            item(std::str::from_utf8(&splitter.item).map_err(|_| WatchError::Garbled)?)?;
            empty(&mut splitter.item);
        }
    }
}

/// Reads the next line into `line`; whether there was one. An unfinished last line is none.
pub(super) async fn line(answer: &mut (impl AsyncBufRead + Unpin), line: &mut Vec<u8>) -> Result<bool, WatchError> {
    empty(line);
    loop {
        let chunk = match answer.fill_buf().await {
            Ok(chunk) => chunk,
            Err(error) if is_end(&error) => return Ok(false),
            Err(error) => return Err(WatchError::Read(error)),
        };
        if chunk.is_empty() {
            return Ok(false);
        }
        let end = chunk.iter().position(|byte| *byte == b'\n');
        line.extend_from_slice(&chunk[..end.unwrap_or(chunk.len())]); // a place in the chunk, or its end
        let taken = end.map_or(chunk.len(), |end| end + 1);
        answer.consume_unpin(taken);
        if line.len() > OBJECT_BYTES {
            return Err(WatchError::TooLarge);
        }
        if end.is_some() {
            return Ok(true);
        }
    }
}

/// A connection that ends between two lines, or in one, ends the watch: the next goes on from where this one was.
fn is_end(error: &std::io::Error) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        let ended = |error: &std::io::Error| error.kind() == std::io::ErrorKind::UnexpectedEof;
        if error.downcast_ref().is_some_and(ended) || error.to_string().contains("unexpected EOF during chunk") {
            return true;
        }
        cause = error.source();
    }
    false
}

pub(super) fn text(bytes: Vec<u8>) -> Result<String, WatchError> {
    String::from_utf8(bytes).map_err(|_| WatchError::Garbled)
}

fn empty(buffer: &mut Vec<u8>) {
    buffer.clear();
    buffer.shrink_to(BUFFER_BYTES);
}

/// Parts the elements of a list's `items` from what is around them. It knows of JSON what tells where a value
/// ends: texts, and how deep they stand. Whether it is JSON is for the decoder to say.
#[derive(Default)]
struct Splitter {
    around: Vec<u8>,
    item: Vec<u8>,
    depth: usize,
    in_text: bool,
    escaped: bool,
    in_items: bool,
}

impl Splitter {
    /// Takes the begin of a chunk in: how many bytes, and whether `item` is complete with them.
    fn take(&mut self, chunk: &[u8]) -> Result<(usize, bool), WatchError> {
        let tells = |byte: &u8| match (self.in_text, self.escaped) {
            (true, true) => true,
            (true, false) => matches!(byte, b'"' | b'\\'),
            (false, _) => matches!(byte, b'"' | b'{' | b'}' | b'[' | b']'),
        };
        let run = chunk.iter().position(tells).unwrap_or(chunk.len());
        let (run, rest) = chunk.split_at(run);
        // Between two items stand commas and blanks, which belong to neither.
        if self.in_items && self.depth > 2 {
            self.item.extend_from_slice(run);
        } else if !self.is_between() {
            self.around.extend_from_slice(run);
        }
        let complete = rest.first().is_some_and(|byte| self.take_sign(*byte));
        if self.item.len().max(self.around.len()) > OBJECT_BYTES {
            return Err(WatchError::TooLarge);
        }
        Ok((run.len() + rest.len().min(1), complete))
    }

    fn is_between(&self) -> bool {
        self.in_items && self.depth == 2 && !self.in_text
    }

    /// Takes a byte in that tells something; whether `item` is complete with it.
    fn take_sign(&mut self, byte: u8) -> bool {
        let mut complete = false;
        let between = self.is_between();
        if self.in_text {
            self.in_text = self.escaped || byte != b'"';
            self.escaped = !self.escaped && byte == b'\\';
        } else {
            match byte {
                b'"' => self.in_text = true,
                b'{' | b'[' => {
                    self.in_items |= byte == b'[' && self.depth == 1 && self.is_at_items();
                    self.depth += 1;
                }
                b'}' | b']' => {
                    self.depth = self.depth.saturating_sub(1);
                    complete = self.in_items && self.depth == 2;
                    self.in_items &= self.depth >= 2;
                }
                _ => {}
            }
        }
        let inside = self.in_items && (self.depth > 2 || complete);
        if inside {
            self.item.push(byte);
        } else if !between || byte == b']' {
            self.around.push(byte);
        }
        complete
    }

    /// Whether what was read last is the name of the items.
    fn is_at_items(&self) -> bool {
        let before = self.around.trim_ascii_end().strip_suffix(b":");
        before.is_some_and(|before| before.trim_ascii_end().ends_with(b"\"items\""))
    }
}

#[cfg(test)]
mod tests {
    use futures::io::BufReader;

    use super::*;

    /// What comes of a list that arrives in chunks of this many bytes.
    async fn split(list: &str, chunk: usize) -> Result<(Vec<String>, String), WatchError> {
        let mut found = Vec::new();
        let reader = BufReader::with_capacity(chunk, list.as_bytes());
        let around = items(reader, |item| {
            found.push(item.to_owned());
            Ok::<_, WatchError>(())
        })
        .await?;
        Ok((found, around))
    }

    #[tokio::test]
    async fn a_list_comes_apart_into_its_items_wherever_it_is_cut() {
        let odd = r#"{"a":"]}\"\\","items":[{"x":[1]}],"b":{"items":[{}]},"ä":"}"}"#;
        for (list, expected, around) in [
            (
                format!(r#"{{"metadata":{{"continue":"x"}},"items":[{odd},{{}},{odd}]}}"#),
                vec![odd, "{}", odd],
                r#"{"metadata":{"continue":"x"},"items":[]}"#,
            ),
            (
                format!("{{ \"items\" : [\n {odd} ,\n {{}}\n ] , \"metadata\":{{}} }}\n"),
                vec![odd, "{}"],
                "{ \"items\" : [] , \"metadata\":{} }\n",
            ),
            (
                r#"{"items":[],"metadata":{}}"#.to_owned(),
                vec![],
                r#"{"items":[],"metadata":{}}"#,
            ),
            (
                r#"{"items":null,"metadata":{}}"#.to_owned(),
                vec![],
                r#"{"items":null,"metadata":{}}"#,
            ),
            (
                r#"{"metadata":{"items":[{}]},"kind":"\"items\":["}"#.to_owned(),
                vec![],
                r#"{"metadata":{"items":[{}]},"kind":"\"items\":["}"#,
            ),
        ] {
            for chunk in [1, 2, 3, 7, 4096] {
                let (found, left) = split(&list, chunk).await.unwrap();
                assert_eq!(found, expected, "{list}");
                assert_eq!(left, around, "{list}");
            }
        }
    }

    #[tokio::test]
    async fn lines_come_one_by_one_and_an_unfinished_one_is_none() {
        for chunk in [1, 2, 4096] {
            let mut reader = BufReader::with_capacity(chunk, "one\ntwo ä\n\nthr".as_bytes());
            let mut found = Vec::new();
            let mut buffer = Vec::new();
            while line(&mut reader, &mut buffer).await.unwrap() {
                found.push(String::from_utf8(buffer.clone()).unwrap());
            }
            assert_eq!(found, ["one", "two ä", ""]);
        }
    }

    #[tokio::test]
    async fn what_no_api_server_stores_is_not_taken_in() {
        let endless = format!(r#"{{"items":[{{"a":"{}"}}]}}"#, "x".repeat(OBJECT_BYTES + 1));
        assert!(matches!(split(&endless, 65_536).await, Err(WatchError::TooLarge)));
        let mut reader = BufReader::with_capacity(65_536, endless.as_bytes());
        let mut buffer = Vec::new();
        assert!(matches!(
            line(&mut reader, &mut buffer).await,
            Err(WatchError::TooLarge)
        ));
    }
}
