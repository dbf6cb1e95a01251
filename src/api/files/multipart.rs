//! `multipart/form-data`, parsed as it arrives.
//!
//! Not axum's extractor: it reads ahead as long as the client sends, so a client faster than the
//! disk would fill the memory, and it copies every byte. Here a piece of the body goes on as it is,
//! cut at the boundary.

use bytes::{Buf, Bytes, BytesMut};
use memchr::memmem::Finder;
use thiserror::Error;

/// Most bytes of one part's headers.
const MAX_HEADERS: usize = 16 << 10;
/// Most parts of one form.
const MAX_PARTS: usize = 16;

/// Why a body is not a form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum MultipartError {
    #[error("a boundary is not followed by a line break")]
    Boundary,
    #[error("a part's headers are too long or have no end")]
    Headers,
    #[error("a part has no Content-Disposition with a name")]
    Name,
    #[error("there are too many parts")]
    Parts,
    #[error("it ends before its last boundary")]
    Truncated,
}

/// What comes next in the form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// A part begins.
    Part { name: String, filename: Option<String> },
    /// More of the part's content.
    Data(Bytes),
    /// The part ended.
    PartEnd,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Preamble,
    AfterBoundary,
    Headers,
    Content,
    End,
}

/// The parser: pieces in, events out.
#[derive(Debug)]
pub(crate) struct Multipart {
    delimiter: Finder<'static>,
    held: Bytes,
    place: Place,
    parts: usize,
}

impl Multipart {
    /// A parser for the boundary that the call's content type names.
    pub(crate) fn new(boundary: &str) -> Self {
        let delimiter = Finder::new(&format!("\r\n--{boundary}")).into_owned();
        // The first boundary may stand at the very start, without the line break of the others.
        Self { delimiter, held: Bytes::from_static(b"\r\n"), place: Place::Preamble, parts: 0 }
    }

    /// Gives it the next piece; [`Multipart::next`] must have said that there is nothing left.
    pub(crate) fn push(&mut self, piece: Bytes) {
        if self.held.is_empty() {
            self.held = piece;
            return;
        }
        let mut joined = BytesMut::with_capacity(self.held.len() + piece.len());
        joined.extend_from_slice(&self.held);
        joined.extend_from_slice(&piece);
        self.held = joined.freeze();
    }

    /// The next event; `None`: more is needed.
    ///
    /// # Errors
    /// If the body is no form.
    pub(crate) fn next(&mut self) -> Result<Option<Event>, MultipartError> {
        loop {
            match self.place {
                Place::Preamble => match self.delimiter.find(&self.held) {
                    Some(at) => self.pass_delimiter(at),
                    None => {
                        let kept = self.possible_delimiter();
                        self.held.advance(self.held.len() - kept);
                        return Ok(None);
                    }
                },
                Place::AfterBoundary => match self.after_boundary()? {
                    Some(place) => self.place = place,
                    None => return Ok(None),
                },
                Place::Headers => return self.headers(),
                Place::Content => return Ok(self.content()),
                Place::End => {
                    self.held.clear();
                    return Ok(None);
                }
            }
        }
    }

    /// Whether the body was a whole form.
    ///
    /// # Errors
    /// If it ended early.
    pub(crate) fn finish(&self) -> Result<(), MultipartError> {
        if self.place == Place::End { Ok(()) } else { Err(MultipartError::Truncated) }
    }

    fn pass_delimiter(&mut self, at: usize) {
        self.held.advance(at + self.delimiter.needle().len());
        self.place = Place::AfterBoundary;
    }

    /// What follows a boundary: two hyphens at the end, else a line break after optional white space.
    fn after_boundary(&mut self) -> Result<Option<Place>, MultipartError> {
        if self.held.starts_with(b"--") {
            return Ok(Some(Place::End));
        }
        let padding = self.held.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
        match &self.held[padding..] {
            [b'\r', b'\n', ..] => {
                // The line break stays, so that a part without headers ends them like any other.
                self.held.advance(padding);
                Ok(Some(Place::Headers))
            }
            [] | [b'\r'] | [b'-'] if padding < MAX_HEADERS => Ok(None),
            _ => Err(MultipartError::Boundary),
        }
    }

    fn headers(&mut self) -> Result<Option<Event>, MultipartError> {
        let Some(end) = memchr::memmem::find(&self.held, b"\r\n\r\n") else {
            return if self.held.len() > MAX_HEADERS { Err(MultipartError::Headers) } else { Ok(None) };
        };
        self.parts += 1;
        if end > MAX_HEADERS {
            return Err(MultipartError::Headers);
        } else if self.parts > MAX_PARTS {
            return Err(MultipartError::Parts);
        }
        let lines = self.held.split_to(end + 4);
        let (name, filename) = disposition(&lines).ok_or(MultipartError::Name)?;
        self.place = Place::Content;
        Ok(Some(Event::Part { name, filename }))
    }

    fn content(&mut self) -> Option<Event> {
        match self.delimiter.find(&self.held) {
            Some(0) => {
                self.pass_delimiter(0);
                Some(Event::PartEnd)
            }
            Some(at) => Some(Event::Data(self.held.split_to(at))),
            None => {
                let sure = self.held.len() - self.possible_delimiter();
                (sure > 0).then(|| Event::Data(self.held.split_to(sure)))
            }
        }
    }

    /// Length of the longest end of what is held that may be the beginning of a boundary.
    fn possible_delimiter(&self) -> usize {
        let needle = self.delimiter.needle();
        let longest = self.held.len().min(needle.len() - 1);
        let tail = &self.held[self.held.len() - longest..];
        let starts = memchr::memchr_iter(b'\r', tail);
        starts.map(|at| &tail[at..]).find(|end| needle.starts_with(end)).map_or(0, <[u8]>::len)
    }
}

/// Name and file name from the headers of a part.
fn disposition(headers: &[u8]) -> Option<(String, Option<String>)> {
    let headers = String::from_utf8_lossy(headers);
    let value = headers.split("\r\n").find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.trim().eq_ignore_ascii_case("content-disposition").then_some(value)
    })?;
    let (mut name, mut filename) = (None, None);
    for (key, value) in parameters(value) {
        match key.to_ascii_lowercase().as_str() {
            "name" => name = Some(value),
            "filename" => filename = Some(value),
            _ => {}
        }
    }
    Some((name?, filename))
}

/// The `key=value` pairs after a header's first word, values quoted or not.
pub(crate) fn parameters(value: &str) -> Vec<(&str, String)> {
    let mut pairs = Vec::new();
    let mut rest = value.split_once(';').map_or("", |(_, rest)| rest);
    while let Some((key, after)) = rest.split_once('=') {
        let (value, after) = match after.trim_start().strip_prefix('"') {
            Some(quoted) => unquote(quoted),
            None => {
                let (value, after) = after.split_once(';').unwrap_or((after, ""));
                (value.trim().to_owned(), after)
            }
        };
        pairs.push((key.trim_matches([' ', '\t', ';']), value));
        rest = after;
    }
    pairs
}

/// The text up to the closing quote, and what follows it.
fn unquote(quoted: &str) -> (String, &str) {
    let mut text = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, char)) = chars.next() {
        match char {
            '"' => return (text, &quoted[at + 1..]),
            // Only a quote is escaped: browsers leave the backslashes of Windows paths alone.
            '\\' if quoted[at + 1..].starts_with('"') => {
                text.push('"');
                chars.next();
            }
            other => text.push(other),
        }
    }
    (text, "")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Name, file name and content of every part.
    type Parts = Vec<(String, Option<String>, Vec<u8>)>;

    fn parse(boundary: &str, pieces: impl Iterator<Item = Bytes>) -> Result<Parts, MultipartError> {
        let mut parser = Multipart::new(boundary);
        let mut parts = Parts::new();
        for piece in pieces {
            parser.push(piece);
            while let Some(event) = parser.next()? {
                match event {
                    Event::Part { name, filename } => parts.push((name, filename, Vec::new())),
                    Event::Data(data) => parts.last_mut().unwrap().2.extend_from_slice(&data),
                    Event::PartEnd => {}
                }
            }
        }
        parser.finish().map(|()| parts)
    }

    fn form(contents: &[Vec<u8>]) -> Vec<u8> {
        let mut body = Vec::new();
        for (no, content) in contents.iter().enumerate() {
            let head = format!(
                "--b0\r\nContent-Disposition: form-data; name=\"p{no}\"; filename=\"a;{no}.jsonl\"\r\nX: y\r\n\r\n"
            );
            body.extend_from_slice(head.as_bytes());
            body.extend_from_slice(content);
            body.extend_from_slice(b"\r\n");
        }
        body.extend_from_slice(b"--b0--\r\n");
        body
    }

    proptest! {
        /// However the body is cut, the same parts come out, contents that look like boundaries included.
        #[test]
        fn cuts_do_not_matter(
            contents in prop::collection::vec("(\r|\n|-|b|0|x){0,20}", 0..5),
            cut in 1_usize..40,
        ) {
            let contents: Vec<Vec<u8>> = contents.into_iter().map(String::into_bytes).collect();
            prop_assume!(contents.iter().all(|content| {
                let whole = [b"\r\n", content.as_slice()].concat();
                memchr::memmem::find(&whole, b"\r\n--b0").is_none()
            }));
            let body = form(&contents);
            let pieces = body.chunks(cut).map(Bytes::copy_from_slice);
            let parts = parse("b0", pieces).unwrap();
            prop_assert_eq!(parts.len(), contents.len());
            for (no, (part, content)) in parts.into_iter().zip(contents).enumerate() {
                prop_assert_eq!(part, (format!("p{no}"), Some(format!("a;{no}.jsonl")), content));
            }
        }

        /// Whatever comes, it is parsed or refused.
        #[test]
        fn never_panics(body in prop::collection::vec(any::<u8>(), 0..200), cut in 1_usize..50) {
            let body = [b"--b\r\n".as_slice(), &body].concat();
            let _ = parse("b", body.chunks(cut).map(Bytes::copy_from_slice));
        }
    }

    #[test]
    fn a_form_that_ends_early_is_refused() {
        let body = form(&[b"x".to_vec()]);
        let short = Bytes::copy_from_slice(&body[..body.len() - 4]);
        assert_eq!(parse("b0", std::iter::once(short)), Err(MultipartError::Truncated));
    }

    #[test]
    fn a_part_without_a_name_is_refused() {
        let body = Bytes::from_static(b"--b\r\nContent-Type: x\r\n\r\n\r\n--b--");
        assert_eq!(parse("b", std::iter::once(body)), Err(MultipartError::Name));
    }

    #[test]
    fn headers_without_an_end_are_refused() {
        let body = [b"--b\r\n".as_slice(), &[b'x'; MAX_HEADERS + 1]].concat();
        assert_eq!(parse("b", std::iter::once(body.into())), Err(MultipartError::Headers));
    }

    #[test]
    fn quotes_in_names_are_unescaped() {
        let pairs = parameters(r#"form-data; name="a\"b"; filename="C:\x.jsonl"; z=1"#);
        let values: Vec<&str> = pairs.iter().map(|(_, value)| value.as_str()).collect();
        assert_eq!(values, ["a\"b", r"C:\x.jsonl", "1"]);
    }
}
