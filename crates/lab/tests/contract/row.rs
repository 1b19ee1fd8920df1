//! A row: one request and what its answer must be. Files of rows run from top to bottom in a namespace of their own
//! (`$ns`); a row can save a part of its answer (`save`) for the later ones, which write it as `$name`.

use crate::client::{Client, Question, read};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use serde::Deserialize;
use serde_json::Value;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// How long a row may take until the real server's caches have seen an earlier row.
const SETTLE: Duration = Duration::from_secs(10);

/// How long to wait for the next event of an open watch.
const EVENT: Duration = Duration::from_secs(5);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Row {
    /// The sentence that the row proves.
    #[serde(rename = "row")]
    pub(crate) sentence: String,
    /// Not run against the real server, with the reason.
    #[serde(default)]
    pub(crate) ours_only: Option<String>,
    /// Who asks: admin (default), bob, carol (client certificate), dave, stranger (wrong token),
    /// mallory (client certificate of another authority), nobody (no credential).
    #[serde(default, rename = "as")]
    who: Option<String>,
    /// `METHOD /path?query`; absent in a row that only reads an open watch.
    #[serde(default)]
    ask: Option<String>,
    #[serde(default)]
    body: Option<Value>,
    /// A body that is sent as it stands.
    #[serde(default)]
    raw: Option<String>,
    #[serde(default, rename = "type")]
    content_type: Option<String>,
    /// The HTTP code.
    #[serde(default)]
    code: Option<u16>,
    /// `Status.reason`; an empty text means that there must be none.
    #[serde(default)]
    reason: Option<String>,
    /// A part of `Status.message`, or of a plain text.
    #[serde(default)]
    says: Option<String>,
    /// JSON pointer → value. `$any` is any value.
    #[serde(default)]
    has: BTreeMap<String, Value>,
    /// JSON pointers that lead nowhere.
    #[serde(default)]
    lacks: Vec<String>,
    /// JSON pointer → value that it must not be.
    #[serde(default)]
    differs: BTreeMap<String, Value>,
    /// JSON pointer → length of the list there.
    #[serde(default)]
    counts: BTreeMap<String, usize>,
    /// Name → JSON pointer.
    #[serde(default)]
    save: BTreeMap<String, String>,
    /// The row may fail until caches have caught up.
    #[serde(default)]
    settles: bool,
    /// Leaves the watch open under this name.
    #[serde(default)]
    open: Option<String>,
    /// Reads the next events of the open watch of this name.
    #[serde(default)]
    read: Option<String>,
    /// The events: exactly these until the end of a watch that ends by itself, or the next ones of an open watch.
    #[serde(default)]
    events: Option<Vec<Event>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Event {
    #[serde(rename = "type")]
    kind: String,
    /// JSON pointer into the object → value.
    #[serde(default)]
    has: BTreeMap<String, Value>,
    #[serde(default)]
    lacks: Vec<String>,
}

/// A watch that is still open.
struct Open {
    body: Incoming,
    rest: Vec<u8>,
    lines: VecDeque<Value>,
}

pub(crate) struct Run<'a> {
    client: &'a Client,
    saved: BTreeMap<String, Value>,
    open: BTreeMap<String, Open>,
}

impl<'a> Run<'a> {
    /// Makes the namespace of a file.
    pub(crate) async fn new(client: &'a Client, file: &str) -> Self {
        let namespace = format!("contract-{file}");
        let body = serde_json::json!({"metadata": {"name": namespace}}).to_string();
        let question = Question {
            who: "admin",
            method: "POST",
            path: "/api/v1/namespaces",
            content_type: "application/json",
            body,
        };
        let response = client.ask(&question).await.expect("the server answers");
        assert_eq!(response.status().as_u16(), 201, "the namespace {namespace} can be made");
        let saved = BTreeMap::from([("ns".to_owned(), Value::String(namespace))]);
        Self { client, saved, open: BTreeMap::new() }
    }

    pub(crate) async fn row(&mut self, row: &Row) -> Result<(), String> {
        let ends = tokio::time::Instant::now() + SETTLE;
        loop {
            let done = self.try_row(row).await;
            if done.is_ok() || !row.settles || tokio::time::Instant::now() > ends {
                return done;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn try_row(&mut self, row: &Row) -> Result<(), String> {
        if let Some(name) = &row.read {
            return self.read_open(name, row.events.as_deref().unwrap_or_default()).await;
        }
        let ask = self.fill(row.ask.as_ref().ok_or("a row needs `ask` or `read`")?);
        let (method, path) = ask.split_once(' ').ok_or("`ask` is METHOD /path")?;
        let body = match (&row.raw, &row.body) {
            (Some(raw), _) => raw.clone(),
            (None, Some(body)) => self.fill_value(body).to_string(),
            (None, None) => String::new(),
        };
        let question = Question {
            who: row.who.as_deref().unwrap_or("admin"),
            method,
            path,
            content_type: row.content_type.as_deref().unwrap_or("application/json"),
            body,
        };
        let response = self.client.ask(&question).await?;
        let code = response.status().as_u16();
        if let Some(name) = &row.open {
            let open = Open { body: response.into_body(), rest: Vec::new(), lines: VecDeque::new() };
            self.open.insert(name.clone(), open);
            return expect_code(row, code, "an open watch");
        }
        let (code, text) = read(response).await?;
        expect_code(row, code, &text)?;
        match &row.events {
            Some(events) => self.check_events(events, &lines(&text)?),
            None => self.check(row, &text),
        }
    }

    fn check(&mut self, row: &Row, text: &str) -> Result<(), String> {
        let answer: Value = serde_json::from_str(text).unwrap_or(Value::Null);
        let told = |what: String| format!("{what}, in {}", short(text));
        if let Some(reason) = &row.reason
            && answer["reason"].as_str().unwrap_or_default() != reason
        {
            return Err(told(format!("the reason is {}, not {reason:?}", answer["reason"])));
        }
        if let Some(says) = &row.says {
            let says = self.fill(says);
            let said = answer["message"].as_str().unwrap_or(text);
            if !said.contains(&says) {
                return Err(told(format!("the message lacks {says:?}")));
            }
        }
        self.check_fields(&answer, &row.has, &row.lacks).map_err(told)?;
        for (pointer, value) in &row.differs {
            if answer.pointer(pointer) == Some(&self.fill_value(value)) {
                return Err(told(format!("{pointer} is still {value}")));
            }
        }
        for (pointer, length) in &row.counts {
            let have = answer.pointer(pointer).and_then(Value::as_array).map(Vec::len);
            if have != Some(*length) {
                return Err(told(format!("{pointer} has {have:?} entries, not {length}")));
            }
        }
        for (name, pointer) in &row.save {
            let value = answer.pointer(pointer).ok_or_else(|| told(format!("nothing at {pointer}")))?;
            self.saved.insert(name.clone(), value.clone());
        }
        Ok(())
    }

    fn check_fields(
        &self,
        answer: &Value,
        has: &BTreeMap<String, Value>,
        lacks: &[String],
    ) -> Result<(), String> {
        for (pointer, value) in has {
            let wanted = self.fill_value(value);
            match answer.pointer(pointer) {
                Some(_) if wanted == "$any" => {}
                Some(have) if *have == wanted => {}
                have => return Err(format!("{pointer} is {have:?}, not {wanted}")),
            }
        }
        match lacks.iter().find(|pointer| answer.pointer(pointer).is_some()) {
            Some(pointer) => Err(format!("{pointer} is there")),
            None => Ok(()),
        }
    }

    fn check_events(&self, events: &[Event], lines: &[Value]) -> Result<(), String> {
        let kinds = |kinds: Vec<&str>| kinds.join(" ");
        let have = kinds(lines.iter().map(|line| line["type"].as_str().unwrap_or("?")).collect());
        let wanted = kinds(events.iter().map(|event| event.kind.as_str()).collect());
        if have != wanted {
            let last = lines.last().map(|line| short(&line.to_string())).unwrap_or_default();
            return Err(format!("the events are [{have}], not [{wanted}]; the last: {last}"));
        }
        for (event, line) in events.iter().zip(lines) {
            self.check_fields(&line["object"], &event.has, &event.lacks)
                .map_err(|why| format!("{why}, in {}", short(&line.to_string())))?;
        }
        Ok(())
    }

    async fn read_open(&mut self, name: &str, events: &[Event]) -> Result<(), String> {
        let mut seen = Vec::new();
        let open = self.open.get_mut(name).ok_or_else(|| format!("no watch {name} is open"))?;
        while seen.len() < events.len() {
            match tokio::time::timeout(EVENT, open.next()).await {
                Ok(Ok(line)) => seen.push(line),
                Ok(Err(why)) => return Err(why),
                Err(_) => break,
            }
        }
        self.check_events(events, &seen)
    }

    /// Puts saved values in the place of `$name`.
    fn fill(&self, text: &str) -> String {
        self.saved.iter().fold(text.to_owned(), |text, (name, value)| {
            let plain = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            text.replace(&format!("${name}"), &plain)
        })
    }

    fn fill_value(&self, value: &Value) -> Value {
        match value {
            Value::String(text) if text.starts_with('$') && self.saved.contains_key(&text[1..]) => {
                self.saved[&text[1..]].clone()
            }
            Value::String(text) => Value::String(self.fill(text)),
            Value::Array(values) => values.iter().map(|value| self.fill_value(value)).collect(),
            Value::Object(fields) => {
                fields.iter().map(|(key, value)| (key.clone(), self.fill_value(value))).collect()
            }
            other => other.clone(),
        }
    }
}

impl Open {
    async fn next(&mut self) -> Result<Value, String> {
        loop {
            if let Some(line) = self.lines.pop_front() {
                return Ok(line);
            }
            let frame = self.body.frame().await.ok_or("the watch ended")?;
            let frame = frame.map_err(|err| format!("the watch broke off: {err}"))?;
            self.rest.extend_from_slice(frame.data_ref().map_or(&[][..], |data| &data[..]));
            while let Some(at) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=at).collect();
                let line = serde_json::from_slice(&line).map_err(|err| format!("no event: {err}"))?;
                self.lines.push_back(line);
            }
        }
    }
}

fn lines(text: &str) -> Result<Vec<Value>, String> {
    let parse = |line: &str| serde_json::from_str(line).map_err(|err| format!("no event: {err}: {line}"));
    text.lines().filter(|line| !line.is_empty()).map(parse).collect()
}

fn expect_code(row: &Row, code: u16, text: &str) -> Result<(), String> {
    match row.code {
        Some(wanted) if wanted != code => Err(format!("the code is {code}, not {wanted}: {}", short(text))),
        _ => Ok(()),
    }
}

fn short(text: &str) -> String {
    text.chars().take(600).collect()
}
