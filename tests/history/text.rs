//! Histories as text, so that a failing one can be kept, read, and checked again.
//!
//! One operation a line, its fields between tabs: client, begin, end (`-`: refused, `?`: unknown),
//! key, call, its arguments, and after `->` the answer. Bytes are written as in Rust, `"..."`.

use std::fmt::Write as _;

use super::operation::{Answer, Call, Operation, Outcome};

/// All operations, in the order given.
pub fn write(history: &[Operation]) -> String {
    let mut text = String::new();
    for operation in history {
        let end = match &operation.outcome {
            Outcome::Ok(_, end) => end.to_string(),
            Outcome::Failed => "-".to_owned(),
            Outcome::Unknown => "?".to_owned(),
        };
        let mut fields = vec![
            operation.client.to_string(),
            operation.begin.to_string(),
            end,
        ];
        fields.push(quoted(operation.key.as_bytes()));
        let (name, arguments): (&str, Vec<&[u8]>) = match &operation.call {
            Call::Get => ("get", vec![]),
            Call::Set(value) => ("set", vec![value]),
            Call::GetSet(value) => ("getset", vec![value]),
            Call::Incr => ("incr", vec![]),
            Call::Append(more) => ("append", vec![more]),
            Call::Del => ("del", vec![]),
            Call::SetIfEqual { old, value } => ("cas", vec![old, value]),
        };
        fields.push(name.to_owned());
        fields.extend(arguments.into_iter().map(quoted));
        if let Outcome::Ok(answer, _) = &operation.outcome {
            fields.push("->".to_owned());
            fields.extend(said(answer));
        }
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{}", fields.join("\t"));
    }
    text
}

fn said(answer: &Answer) -> Vec<String> {
    let word = |word: &str| vec![word.to_owned()];
    match answer {
        Answer::Value(None) => word("nil"),
        Answer::Value(Some(value)) => vec!["value".to_owned(), quoted(value)],
        Answer::Done => word("ok"),
        Answer::Integer(number) => vec!["integer".to_owned(), number.to_string()],
        Answer::Stored(true) => word("stored"),
        Answer::Stored(false) => word("not stored"),
        Answer::NotAnInteger => word("not an integer"),
    }
}

/// Reads what [`write`] wrote. The error names the line.
pub fn parse(text: &str) -> Result<Vec<Operation>, String> {
    let lines = text.lines().enumerate();
    lines
        .map(|(at, line)| operation(line).ok_or_else(|| format!("line {}: {line:?}", at + 1)))
        .collect()
}

fn operation(line: &str) -> Option<Operation> {
    let fields: Vec<&str> = line.split('\t').collect();
    let [client, begin, end, key, rest @ ..] = fields.as_slice() else {
        return None;
    };
    let arrow = rest
        .iter()
        .position(|field| *field == "->")
        .unwrap_or(rest.len());
    let (call, answer) = rest.split_at(arrow);
    let outcome = match *end {
        "-" => Outcome::Failed,
        "?" => Outcome::Unknown,
        end => Outcome::Ok(parse_answer(answer.get(1..)?)?, end.parse().ok()?),
    };
    Some(Operation {
        client: client.parse().ok()?,
        key: String::from_utf8(unquoted(key)?).ok()?,
        call: parse_call(call)?,
        begin: begin.parse().ok()?,
        outcome,
    })
}

fn parse_call(words: &[&str]) -> Option<Call> {
    Some(match words {
        ["get"] => Call::Get,
        ["set", value] => Call::Set(unquoted(value)?),
        ["getset", value] => Call::GetSet(unquoted(value)?),
        ["incr"] => Call::Incr,
        ["append", more] => Call::Append(unquoted(more)?),
        ["del"] => Call::Del,
        ["cas", old, value] => Call::SetIfEqual {
            old: unquoted(old)?,
            value: unquoted(value)?,
        },
        _ => return None,
    })
}

fn parse_answer(words: &[&str]) -> Option<Answer> {
    Some(match words {
        ["nil"] => Answer::Value(None),
        ["value", value] => Answer::Value(Some(unquoted(value)?)),
        ["ok"] => Answer::Done,
        ["integer", number] => Answer::Integer(number.parse().ok()?),
        ["stored"] => Answer::Stored(true),
        ["not stored"] => Answer::Stored(false),
        ["not an integer"] => Answer::NotAnInteger,
        _ => return None,
    })
}

/// Quotes keep an argument from being taken for the arrow.
fn quoted(bytes: &[u8]) -> String {
    format!("\"{}\"", bytes.escape_ascii())
}

fn unquoted(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut rest = text.strip_prefix('"')?.strip_suffix('"')?.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'\\' => match rest.next()? {
                b't' => b'\t',
                b'n' => b'\n',
                b'r' => b'\r',
                b'x' => {
                    let digits = [rest.next()?, rest.next()?];
                    u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
                }
                other => other,
            },
            plain => plain,
        });
    }
    Some(bytes)
}
