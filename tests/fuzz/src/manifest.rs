//! Modules and manifests before anything of them runs. Input that begins as a module is checked
//! as one, and started if it is let in; input that begins as JSON is a manifest; all other is a
//! list of edits of a manifest that says everything.

use std::sync::{Arc, LazyLock};

use millrace_abi::{Class, limits};
use millrace_sandbox::{Grant, Hook, Instance, Manifest, Refusal, Sandbox, Settings, check};
use serde_json::{Map, Value, json};

/// Takes `input` for what it looks like.
///
/// # Panics
/// If the sandbox breaks its word.
pub fn run(input: &[u8]) {
    match input.first() {
        Some(0) => module(input),
        Some(b'{') => manifest(input),
        _ => {
            let mut manifest_value = everything();
            edit(&mut manifest_value, &mut input.iter().copied());
            manifest(manifest_value.to_string().as_bytes());
        }
    }
}

/// A manifest that has every key.
pub fn everything() -> Value {
    json!({
        "abi": 1,
        "name": "everything",
        "version": "1.2.3",
        "description": "It says everything.",
        "hooks": ["flow", "packet", "tick", "update"],
        "classes": ["arp", "nd"],
        "capabilities": ["drop", "inspect", "emit"],
        "tables": ["services/0", "endpoints/0"],
        "snap": 128,
        "config": {"type": "object", "properties": {"limit": {"type": "integer"}}},
        "rules": [{"id": 1, "name": "first", "help": "The first."}, {"id": 2, "name": "second"}],
        "maps": [{
            "name": "stations",
            "key": [{"name": "mac", "type": "mac"}, {"name": "vlan", "type": "u16"}],
            "value": [{"name": "port", "type": "port"}, {"name": "rest", "type": "bytes12"}],
        }],
    })
}

/// A module that exports what the hooks need, and is otherwise in order; its custom section, at
/// its end, has `section` in it.
pub fn module_with(hooks: [bool; 4], section: &[u8]) -> Vec<u8> {
    static BODIES: LazyLock<[Vec<u8>; 16]> = LazyLock::new(|| std::array::from_fn(body));
    let which = (0..4).filter(|&hook| hooks[hook]).map(|hook| 1 << hook).sum::<usize>();
    let name = b"millrace";
    let len = 1 + name.len() + section.len();
    let mut module = BODIES[which].clone();
    module.push(0);
    module.extend((0..5).map(|septet| {
        let more = if septet < 4 { 0x80 } else { 0 };
        (len >> (7 * septet)) as u8 & 0x7f | more
    }));
    module.push(name.len() as u8);
    module.extend_from_slice(name);
    module.extend_from_slice(section);
    module
}

/// A module without a manifest; a bit of `hooks` for each hook that it exports.
fn body(hooks: usize) -> Vec<u8> {
    const HOOKS: [(&str, &str); 4] = [
        ("millrace_flow", "(param i32 i32 i32)"),
        ("millrace_packet", "(param i32 i32 i32)"),
        ("millrace_tick", "(param i64)"),
        ("millrace_update", "(param i32 i32)"),
    ];
    let exported = (0..4).filter(|hook| hooks & 1 << hook != 0).map(|hook| HOOKS[hook]);
    let functions: String = exported
        .map(|(name, parameters)| {
            format!(r#"(func (export "{name}") {parameters} (result i32) (i32.const 0))"#)
        })
        .collect();
    let text = format!(
        r#"(module
            (memory (export "memory") 8)
            (global $free (mut i32) (i32.const 16))
            (func (export "millrace_alloc") (param $len i32) (result i32)
                (global.get $free)
                (global.set $free
                    (i32.add
                        (global.get $free)
                        (i32.and (i32.add (local.get $len) (i32.const 15)) (i32.const -16)))))
            (func (export "millrace_configure") (param i32 i32) (result i32) (i32.const 0))
            {functions})"#
    );
    wat::parse_str(&text).expect("it is right WebAssembly text")
}

/// What is let in starts or is refused in words, and lives within its memory.
fn module(bytes: &[u8]) {
    let Ok(manifest) = check(bytes, limits::DEFAULT_MEMORY) else { return };
    sound(&manifest);
    static SANDBOX: LazyLock<Arc<Sandbox>> =
        LazyLock::new(|| Arc::new(Sandbox::new(&Settings::default()).expect("the engine starts")));
    let Ok(module) = SANDBOX.load(bytes, MEMORY) else { return };
    let grant = Grant { memory: MEMORY, ..Grant::new("fuzz") };
    if let Ok(instance) = module.instantiate(&grant, "{}") {
        assert!(Instance::memory_size(&instance) <= MEMORY);
    }
}

/// A manifest says the same when it is written out again, and a module that does what it says is
/// let in.
fn manifest(text: &[u8]) {
    let Ok(manifest) = Manifest::parse(text) else { return };
    sound(&manifest);
    let written = serde_json::to_vec(&manifest).expect("a manifest is JSON");
    if written.len() <= limits::MAX_MANIFEST {
        assert_eq!(Manifest::parse(&written), Ok(manifest.clone()));
    }

    let hooks = [Hook::Flow, Hook::Packet, Hook::Tick, Hook::Update].map(|hook| manifest.has(hook));
    assert_eq!(check(&module_with(hooks, text), limits::DEFAULT_MEMORY), Ok(manifest));
    let others = hooks.map(|has| !has);
    let refused = check(&module_with(others, text), limits::DEFAULT_MEMORY);
    assert!(matches!(refused, Err(Refusal::HookMismatch { .. })), "{refused:?}");
}

/// What the rest of the host takes for granted of a manifest.
fn sound(manifest: &Manifest) {
    let is_name = |name: &str| {
        let plain = |c: char| matches!(c, 'a'..='z' | '0'..='9' | '-');
        (1..=limits::MAX_NAME).contains(&name.len()) && name.chars().all(plain)
    };
    assert!(is_name(&manifest.name));
    assert!(!manifest.hooks.is_empty());
    assert!((64..=limits::MAX_FRAME as u32).contains(&manifest.snap));
    assert!(!manifest.classes().contains(Class::Flow));
    assert!(manifest.rule(0).is_none());
    for rule in &manifest.rules {
        assert!(is_name(&rule.name));
        assert_eq!(manifest.rule(rule.id), Some(rule), "no number is used twice");
    }
    for map in &manifest.maps {
        assert!(is_name(&map.name));
        for (fields, limit) in [(&map.key, limits::MAX_KEY), (&map.value, limits::MAX_VALUE)] {
            let lens = fields.iter().map(|field| field.bytes().expect("its type is known"));
            assert!((1..=limit).contains(&lens.sum()));
        }
    }
}

/// Changes a value as `edits` say: each one finds a place, and does something there.
fn edit(root: &mut Value, edits: &mut impl Iterator<Item = u8>) {
    for _ in 0..MOST_EDITS {
        let Some(depth) = edits.next() else { return };
        let mut place = &mut *root;
        for _ in 0..depth % 5 {
            let which = edits.next().unwrap_or(0);
            let inside = match place {
                Value::Array(values) if !values.is_empty() => usize::from(which) % values.len(),
                Value::Object(map) if !map.is_empty() => usize::from(which) % map.len(),
                _ => break,
            };
            place = match place {
                Value::Array(values) => &mut values[inside],
                Value::Object(map) => map.values_mut().nth(inside).expect("it has so many"),
                _ => unreachable!("only these have something inside"),
            };
        }
        let (deed, which) = (edits.next().unwrap_or(0), edits.next().unwrap_or(0));
        change(place, deed, which);
    }
}

fn change(place: &mut Value, deed: u8, which: u8) {
    let which = usize::from(which);
    match (deed % 6, place) {
        (0, Value::Object(map)) if !map.is_empty() => {
            let key = map.keys().nth(which % map.len()).cloned();
            map.remove(&key.expect("it has so many"));
        }
        (0, Value::Array(values)) if !values.is_empty() => {
            values.remove(which % values.len());
        }
        (1, Value::Object(map)) => {
            map.insert(WORDS[which % WORDS.len()].to_owned(), Value::Null);
        }
        (1, Value::Array(values)) if !values.is_empty() => {
            values.push(values[which % values.len()].clone());
        }
        (2, place) => *place = WORDS[which % WORDS.len()].into(),
        (3, place) => *place = NUMBERS[which % NUMBERS.len()].into(),
        (4, Value::String(text)) if text.len() < 80 => *text = text.repeat(which % 80),
        (4, place) => *place = Value::Array(vec![place.take()]),
        (_, place) => *place = Value::Object(Map::from_iter([("name".to_owned(), place.take())])),
    }
}

const WORDS: [&str; 26] = [
    "",
    "flow",
    "packet",
    "tick",
    "arp",
    "nd",
    "icmp",
    "fragment",
    "other-ip",
    "non-ip",
    "drop",
    "reject",
    "redirect",
    "translate",
    "inspect",
    "rewrite",
    "emit",
    "share",
    "u64",
    "ip",
    "time",
    "bytes0",
    "bytes64",
    "bytes18446744073709551615",
    "Capital",
    "\u{0}\u{fffd}",
];
const NUMBERS: [i64; 10] = [0, 1, 2, 63, 64, 9216, 9217, u32::MAX as i64, u32::MAX as i64 + 1, -1];

/// Edits of one manifest, at most: some of them multiply what earlier ones have made.
const MOST_EDITS: usize = 16;

/// Memory of an instance, at most: enough for what the host puts there.
const MEMORY: usize = 4 << 20;
