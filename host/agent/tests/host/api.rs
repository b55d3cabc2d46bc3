//! `API.md` is true: it has every route, and its examples are run in order against a host.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::asking::resolve;
use crate::bed::Bed;
use crate::http;

/// A section about a route.
struct Section {
    /// As in `GET /v1/status`.
    route: String,
    /// The requests of its example, the last of which has the answer.
    requests: Vec<Request>,
    /// What the example answers, if anything.
    answer: Option<Value>,
    /// The route whose example shows the answer instead.
    like: Option<String>,
    /// Whether a host that is no node has nothing to answer.
    of_a_node: bool,
    /// Whether its answer is no JSON, but a stream.
    streams: bool,
}

/// A request, read from a `curl` command.
struct Request {
    method: String,
    path: String,
    body: String,
}

impl Request {
    fn read(command: &str) -> Self {
        let words = words(command);
        let behind = |flag| words.iter().skip_while(|word| *word != flag).nth(1).cloned();
        let path = words.iter().find_map(|word| word.strip_prefix("http://localhost"));
        let body = behind("-d");
        let method = match &body {
            Some(_) => "POST",
            None => "GET",
        };
        assert_eq!(&words[..3], ["curl", "--unix-socket", "$SOCKET"], "{command}");
        Self {
            method: behind("-X").unwrap_or_else(|| method.to_owned()),
            path: path.unwrap_or_else(|| panic!("no address: {command}")).to_owned(),
            body: body.unwrap_or_default(),
        }
    }
}

/// The words of a command, as far as quotes go.
fn words(command: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for c in command.chars() {
        match c {
            '\'' => quoted = !quoted,
            ' ' | '\n' | '\\' if !quoted => words.push(String::new()),
            _ => words.last_mut().expect("it begins with one").push(c),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

fn sections() -> Vec<Section> {
    DOCUMENT.split("\n### `").skip(1).map(section).collect()
}

fn section(text: &str) -> Section {
    let (route, text) = text.split_once('`').expect("a route is quoted");
    let block = |language: &str| {
        let (_, behind) = text.split_once(&format!("\n```{language}\n"))?;
        behind.split_once("\n```").map(|(block, _)| block)
    };
    let commands = block("sh").unwrap_or_else(|| panic!("{route} has no example"));
    let answer = block("json").map(|json| {
        serde_json::from_str(json).unwrap_or_else(|error| panic!("{route}: {error}:\n{json}"))
    });
    let requests = commands.split("curl ").skip(1);
    let requests = requests.map(|command| Request::read(&format!("curl {command}")));
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let (_, like) = words.split_once(" like `").unzip();
    let like = like.and_then(|like| like.split('`').next()).map(str::to_owned);
    let of_a_node = words.starts_with("Only of a node: ");
    let streams = words.contains(": a stream of ");
    let requests = requests.collect();
    Section { route: route.to_owned(), requests, answer, like, of_a_node, streams }
}

/// The routes that the server has, as in `GET /v1/status`.
fn routes() -> BTreeSet<String> {
    let mut routes = BTreeSet::new();
    for route in SERVER.split(".route(").skip(1) {
        let path = route.split('"').nth(1).expect("a route has a path");
        let route_alone = route.split("\n        .").next().expect("there is a first part");
        for method in ["get", "post", "put", "delete"] {
            if route_alone.contains(&format!("{method}(")) {
                routes.insert(format!("{} {path}", method.to_uppercase()));
            }
        }
    }
    routes
}

/// Whether a path is one of a route.
fn fits(path: &str, route: &str) -> bool {
    let path = path.split('?').next().expect("there is a first part");
    let (path, route) = (path.split('/'), route.split('/'));
    path.clone().count() == route.clone().count()
        && path.zip(route).all(|(part, pattern)| pattern.starts_with('{') || part == pattern)
}

/// Asserts that two values have the same keys, and values of the same types.
fn assert_alike(documented: &Value, answered: &Value, place: &str) {
    match (documented, answered) {
        (Value::Object(documented), Value::Object(answered)) => {
            let keys = |object: &serde_json::Map<_, _>| object.keys().cloned().collect::<Vec<_>>();
            assert_eq!(keys(documented), keys(answered), "{place}");
            for (key, value) in documented {
                assert_alike(value, &answered[key], &format!("{place}.{key}"));
            }
        }
        (Value::Array(documented), Value::Array(answered)) => {
            for (value, other) in documented.iter().zip(answered) {
                assert_alike(value, other, &format!("{place}[]"));
            }
        }
        (Value::Null, _) | (_, Value::Null) => {}
        (documented, answered) => {
            let same = std::mem::discriminant(documented) == std::mem::discriminant(answered);
            assert!(same, "{place}: {documented} is documented, {answered} is answered");
        }
    }
}

#[test]
fn every_route_is_documented_and_every_documented_route_is_there() {
    let documented: BTreeSet<_> = sections().into_iter().map(|section| section.route).collect();
    assert_eq!(documented, routes());
    assert!(documented.len() > 20);
}

#[test]
fn every_example_works_as_it_stands() {
    let Some(bed) = Bed::new(3) else { return };
    let [a, b, _] = &bed.pods[..] else { unreachable!("there are three") };
    let host = bed.run(&["--filter=dns=dns-log", "--filter=bridge"]);
    assert!(a.pings(b));
    resolve(a, b, "example.com");
    host.until(&["filter", "logs", "dns"], |lines| lines[0]["sequence"] == 1);
    // the third one is what the example adds
    host.ask(&["port", "remove", "veth-c"]);

    let sections = sections();
    for Section { route, requests, answer, like, of_a_node, streams } in &sections {
        let mut answered = None;
        for Request { method, path, body } in requests {
            let (status, text) = http::ask(&host.socket, method, path, body);
            if *of_a_node {
                assert_eq!(status, 404, "{method} {path}: {text}");
                continue;
            }
            assert!((200..300).contains(&status), "{method} {path}: {status} {text}");
            answered = Some(text).filter(|_| status != 204);
        }
        let last = requests.last().expect("there is an example");
        let (method, pattern) = route.split_once(' ').expect("a method and a path");
        assert!(method == last.method && fits(&last.path, pattern), "{route}: {}", last.path);
        let same = |other: &&Section| Some(&other.route) == like.as_ref();
        let answer = answer.as_ref().or_else(|| sections.iter().find(same)?.answer.as_ref());
        match (answer, &answered) {
            (_, None) if *of_a_node => {}
            (None, Some(_)) if *streams => {}
            (None, None) => {}
            (Some(documented), Some(text)) => {
                let answered = serde_json::from_str(text).expect("answers are JSON");
                assert_alike(documented, &answered, route);
            }
            _ => panic!("{route} answers {answered:?}, documented is {answer:?}"),
        }
    }
}

const DOCUMENT: &str = include_str!("../../API.md");
const SERVER: &str = include_str!("../../src/api/server.rs");
