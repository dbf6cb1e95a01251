//! Heads of HTTP/1.1 requests, parsed by hand.
//!
//! A framework would cost more than the rest of the upstream together, and it couldn't break the
//! protocol on purpose.

use memchr::memmem;

/// The longest head that is read.
pub(super) const LONGEST_HEAD: usize = 64 * 1024;

/// What a request's head says, as far as it matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// `GET`, `POST`, …
    pub(super) method: String,
    /// The path with its query.
    pub(super) target: String,
    /// The key, from `Authorization: Bearer`, `x-api-key` or `api-key`.
    pub(super) key: Option<String>,
    /// Who calls, from `x-caller`: tells several clients of one upstream apart.
    pub(super) caller: Option<String>,
    /// How the body is framed.
    pub(super) framing: Framing,
    /// Whether the client waits for `100 Continue`.
    pub(super) expects: bool,
    /// Whether the connection stays open afterwards.
    pub(super) keep_alive: bool,
    /// Bytes of the head, its empty line included.
    pub(super) bytes: usize,
}

/// How a body is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// So many bytes.
    Length(usize),
    /// In chunks.
    Chunked,
}

/// What is no head of HTTP/1.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed;

impl Head {
    /// Parses what a connection has read: `None` while the head isn't whole.
    pub(super) fn parse(bytes: &[u8]) -> Result<Option<Self>, Malformed> {
        let Some(end) = memmem::find(bytes, b"\r\n\r\n") else {
            return if bytes.len() > LONGEST_HEAD { Err(Malformed) } else { Ok(None) };
        };
        let text = std::str::from_utf8(&bytes[..end]).map_err(|_| Malformed)?;
        let mut lines = text.split("\r\n");
        let mut words = lines.next().unwrap_or_default().split(' ');
        let (Some(method), Some(target), Some(version), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(Malformed);
        };
        let mut head = Self {
            method: method.to_owned(),
            target: target.to_owned(),
            key: None,
            caller: None,
            framing: Framing::Length(0),
            expects: false,
            keep_alive: match version {
                "HTTP/1.1" => true,
                "HTTP/1.0" => false,
                _ => return Err(Malformed),
            },
            bytes: end + 4,
        };
        for line in lines {
            let (name, value) = line.split_once(':').ok_or(Malformed)?;
            head.take(name, value.trim())?;
        }
        Ok(Some(head))
    }

    fn take(&mut self, name: &str, value: &str) -> Result<(), Malformed> {
        if name.eq_ignore_ascii_case("content-length") {
            // A body in chunks has no length of its own; whoever sends both means the chunks.
            if self.framing != Framing::Chunked {
                self.framing = Framing::Length(value.parse().map_err(|_| Malformed)?);
            }
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            if !value.eq_ignore_ascii_case("chunked") {
                return Err(Malformed);
            }
            self.framing = Framing::Chunked;
        } else if name.eq_ignore_ascii_case("authorization") {
            self.key = value.strip_prefix("Bearer ").map(str::to_owned);
        } else if name.eq_ignore_ascii_case("x-api-key") || name.eq_ignore_ascii_case("api-key") {
            self.key = Some(value.to_owned());
        } else if name.eq_ignore_ascii_case("x-caller") {
            self.caller = Some(value.to_owned());
        } else if name.eq_ignore_ascii_case("expect") {
            self.expects = value.eq_ignore_ascii_case("100-continue");
        } else if name.eq_ignore_ascii_case("connection") {
            self.keep_alive = !value.eq_ignore_ascii_case("close");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Option<Head>, Malformed> {
        Head::parse(text.as_bytes())
    }

    #[test]
    fn a_head_is_read() {
        let text = "POST /v1/x?a=b HTTP/1.1\r\nHost: h\r\ncontent-LENGTH: 12\r\nAuthorization: Bearer sk-1\r\n\
                    Expect: 100-continue\r\nX-Caller: r1\r\nConnection: close\r\n\r\nbody";
        let head = parse(text).unwrap().unwrap();
        assert_eq!((head.method.as_str(), head.target.as_str()), ("POST", "/v1/x?a=b"));
        assert_eq!((head.key.as_deref(), head.framing), (Some("sk-1"), Framing::Length(12)));
        assert!(head.expects && !head.keep_alive);
        assert_eq!(head.caller.as_deref(), Some("r1"));
        assert_eq!(&text[head.bytes..], "body");
    }

    #[test]
    fn the_other_framing_and_key() {
        let head = parse(
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\nx-api-key: k\r\n\r\n",
        );
        let head = head.unwrap().unwrap();
        assert_eq!((head.framing, head.key.as_deref()), (Framing::Chunked, Some("k")));
        assert!(head.keep_alive);
        assert!(!parse("GET / HTTP/1.0\r\n\r\n").unwrap().unwrap().keep_alive);
    }

    #[test]
    fn what_is_not_whole_or_not_http_is_told_apart() {
        assert_eq!(parse("POST / HTTP/1.1\r\nHost"), Ok(None));
        for text in ["GET /\r\n\r\n", "GET / HTTP/2\r\n\r\n", "GET / HTTP/1.1\r\nbad\r\n\r\n"] {
            assert_eq!(parse(text), Err(Malformed), "{text}");
        }
        assert_eq!(Head::parse(&vec![b'a'; LONGEST_HEAD + 1]), Err(Malformed));
    }
}
