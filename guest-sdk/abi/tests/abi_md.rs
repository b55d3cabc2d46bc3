//! Keeps `ABI.md` honest: what its tables say is what is declared. Each complaint names the line
//! to mend.

use std::collections::BTreeMap;
use std::path::Path;

use millrace_abi::layout::{FieldLayout, Layout};
use millrace_abi::{
    Capability, Class, Decision, MapShape, PacketRecord, PortKind, Reason, ReasonGroup, Slot,
    header, limits,
};

const TEXT: &str = include_str!("../ABI.md");
const LIMITS: &str = include_str!("../src/limits.rs");

/// A table of the document.
struct Table {
    /// The line of its heading row.
    line: usize,
    /// The heading of the section that it is in.
    section: &'static str,
    /// What its columns are called.
    columns: Vec<&'static str>,
    rows: Vec<Row>,
}

struct Row {
    line: usize,
    cells: Vec<&'static str>,
}

/// Every table, in order.
fn tables() -> Vec<Table> {
    let (mut tables, mut section, mut inside) = (Vec::<Table>::new(), "", false);
    for (line, text) in (1..).zip(TEXT.lines()) {
        if text.starts_with('#') {
            section = text.trim_start_matches(['#', ' ']);
        }
        let cells = text.strip_prefix('|').and_then(|text| text.strip_suffix('|'));
        match cells.map(|cells| cells.split('|').map(str::trim).collect::<Vec<_>>()) {
            None => inside = false,
            Some(columns) if !inside => {
                tables.push(Table { line, section, columns, rows: Vec::new() });
                inside = true;
            }
            Some(cells) if cells.iter().all(|cell| *cell == "---") => {}
            Some(cells) => {
                let table = tables.last_mut().expect("a row has a heading before it");
                assert_eq!(cells.len(), table.columns.len(), "ABI.md:{line}: cells are missing");
                table.rows.push(Row { line, cells });
            }
        }
    }
    tables
}

/// The table whose first column is called `column`.
fn table(column: &str) -> Table {
    let mut found = tables().into_iter().filter(|table| table.columns[0] == column);
    let table = found.next().unwrap_or_else(|| panic!("ABI.md has no table of `{column}`"));
    assert!(found.next().is_none(), "ABI.md has two tables of `{column}`");
    table
}

/// What stands between backticks, if the cell is nothing else.
fn code(cell: &str) -> Option<&str> {
    cell.strip_prefix('`')?.strip_suffix('`').filter(|code| !code.contains('`'))
}

fn number(cell: &str) -> Option<i64> {
    match cell.strip_prefix("0x") {
        Some(digits) => i64::from_str_radix(digits, 16).ok(),
        None => cell.parse().ok(),
    }
}

#[track_caller]
fn assert_none(complaints: &[String]) {
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

/// A row and what it has to begin with: every difference is a complaint.
fn compare(table: &Table, expected: impl IntoIterator<Item = Vec<String>>) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut rows = table.rows.iter();
    for expected in expected {
        match rows.next() {
            Some(row) if row.cells.iter().zip(&expected).all(|(is, should)| is == should) => {}
            Some(row) => complaints.push(format!(
                "ABI.md:{}: `| {} |` has to begin with `| {} |`",
                row.line,
                row.cells[..expected.len()].join(" | "),
                expected.join(" | ")
            )),
            None => complaints.push(format!(
                "ABI.md:{}: the table lacks `| {} |`",
                table.line,
                expected.join(" | ")
            )),
        }
    }
    complaints.extend(rows.map(|row| format!("ABI.md:{}: there is no such thing", row.line)));
    complaints
}

fn layout<T: Layout>(complaints: &mut Vec<String>) {
    let ty = |field: &FieldLayout| match field.count {
        Some(count) => format!("`u{}[{count}]`", field.bits),
        None => format!("`u{}`", field.bits),
    };
    let section = format!("`{}`, {} bytes", T::NAME, size_of::<T>());
    let Some(table) = tables().into_iter().find(|table| table.section == section) else {
        return complaints.push(format!("ABI.md has no section \"### {section}\" with a table"));
    };
    let field = |field: &FieldLayout| {
        vec![field.offset.to_string(), format!("`{}`", field.name), ty(field)]
    };
    complaints.extend(compare(&table, T::FIELDS.iter().map(field)));
}

#[test]
fn the_layouts_are_those_that_are_declared() {
    let mut complaints = Vec::new();
    layout::<Slot>(&mut complaints);
    layout::<Decision>(&mut complaints);
    layout::<PacketRecord>(&mut complaints);
    layout::<MapShape>(&mut complaints);
    assert_none(&complaints);
}

/// The C header's lines.
fn header() -> Vec<String> {
    let mut text = String::new();
    header::write(&mut text).expect("a String takes everything");
    text.lines().map(str::to_owned).collect()
}

/// The constants of the C header, without `MILLRACE_`.
fn constants() -> BTreeMap<String, i64> {
    let constant = |line: &String| {
        let (name, value) = line.strip_prefix("#define MILLRACE_")?.split_once(' ')?;
        Some((name.to_owned(), number(value.trim_matches(['(', ')']))?))
    };
    header().iter().filter_map(constant).collect()
}

#[test]
fn every_constant_is_there_with_its_value() {
    let constants = constants();
    assert!(constants.len() > 80, "the header has them all");
    let (mut complaints, mut listed) = (Vec::new(), Vec::new());
    for row in tables().iter().flat_map(|table| &table.rows) {
        let Some(name) = code(row.cells[0]) else { continue };
        let name = match name.strip_prefix("MILLRACE_") {
            Some(name) => name,
            // the limits that the header has too
            None if constants.contains_key(name) => name,
            None => continue,
        };
        match constants.get(name) {
            None => complaints.push(format!("ABI.md:{}: there is no MILLRACE_{name}", row.line)),
            Some(&value) if number(row.cells[1]) != Some(value) => {
                complaints.push(format!("ABI.md:{}: MILLRACE_{name} is {value}", row.line));
            }
            Some(_) => listed.push(name),
        }
    }
    // reasons that filters cannot state are the operator's to read
    let foreign: Vec<String> = Reason::ALL
        .iter()
        .filter(|reason| reason.group() != ReasonGroup::Filter)
        .map(|reason| format!("REASON_{}", reason.label().to_uppercase().replace('-', "_")))
        .collect();
    for name in constants.keys().filter(|name| !foreign.contains(name)) {
        let times = listed.iter().filter(|listed| *listed == name).count();
        if times != 1 {
            complaints.push(format!("ABI.md has MILLRACE_{name} {times} times instead of once"));
        }
    }
    assert_none(&complaints);
}

#[test]
fn labels_are_those_of_manifests_and_metrics() {
    let row = |prefix: &str, value: u16, label: &str| {
        let name = label.to_uppercase().replace('-', "_");
        vec![format!("`MILLRACE_{prefix}_{name}`"), value.to_string(), format!("`{label}`")]
    };
    let mut complaints =
        compare(&table("class"), Class::ALL.map(|class| row("CLASS", class as u16, class.label())));
    complaints.extend(compare(
        &table("port kind"),
        PortKind::ALL.map(|kind| row("PORT", kind as u16, kind.label())),
    ));
    let stated = Reason::ALL.iter().filter(|reason| reason.group() == ReasonGroup::Filter);
    complaints.extend(compare(
        &table("reason a filter may state"),
        stated.map(|&reason| {
            let mut row = row("REASON", reason as u16, reason.label());
            row.push(reason.help().to_owned());
            row
        }),
    ));
    complaints.extend(compare(
        &table("capability"),
        Capability::ALL.map(|capability| vec![format!("`{}`", capability.label())]),
    ));
    assert_none(&complaints);
}

/// The type that WebAssembly has for a C type.
fn lowered(c: &str) -> &'static str {
    match c {
        "uint64_t" | "int64_t" => "i64",
        "uint32_t" | "int32_t" => "i32",
        pointer if pointer.ends_with('*') => "i32",
        other => panic!("the header has the unexpected type `{other}`"),
    }
}

/// Names and signatures of the header's functions that are declared with `keyword`, by
/// WebAssembly's types.
fn functions(keyword: &str) -> Vec<(String, String)> {
    let function = |line: &String| {
        let (name, prototype) = line.strip_prefix(keyword)?.strip_prefix('(')?.split_once(") ")?;
        let (returns, parameters) = prototype.split_once('(')?;
        let returns = returns.trim_end().rsplit_once([' ', '*'])?;
        let returns = match returns {
            ("void", _) if !prototype.contains("void *") => String::new(),
            ("void ", _) => " -> i32".to_owned(),
            (ty, _) => format!(" -> {}", lowered(ty.trim())),
        };
        let ty = |parameter: &str| {
            let end = parameter.rfind([' ', '*']).map_or(0, |at| at + 1);
            lowered(parameter[..end].trim())
        };
        let parameters: Vec<_> = match parameters.strip_suffix(");")? {
            "void" => Vec::new(),
            list => list.split(", ").map(ty).collect(),
        };
        Some((name.to_owned(), format!("({}){returns}", parameters.join(", "))))
    };
    header().iter().filter_map(function).collect()
}

/// A signature of the document without the names of its parameters.
fn bare(signature: &str) -> Option<String> {
    let (parameters, returns) = code(signature)?.strip_prefix('(')?.split_once(')')?;
    let ty = |parameter: &str| Some(parameter.split_once(": ")?.1.to_owned());
    let types: Option<Vec<_>> = match parameters {
        "" => Some(Vec::new()),
        list => list.split(", ").map(ty).collect(),
    };
    Some(format!("({}){returns}", types?.join(", ")))
}

#[test]
fn exports_and_imports_have_their_names_and_signatures() {
    let mut complaints = Vec::new();
    for (column, keyword) in [("export", "MILLRACE_EXPORT"), ("import", "MILLRACE_IMPORT")] {
        let (mut table, functions) = (table(column), functions(keyword));
        assert!(functions.len() >= 5, "the header has functions");
        table.rows.retain(|row| row.cells[0] != "`memory`");
        let names = functions.iter().map(|(name, _)| vec![format!("`{name}`")]);
        complaints.extend(compare(&table, names));
        for (row, (name, signature)) in table.rows.iter().zip(&functions) {
            if bare(row.cells[1]).as_ref() != Some(signature) {
                complaints.push(format!("ABI.md:{}: `{name}` is `{signature}`", row.line));
            }
        }
    }
    assert_none(&complaints);
}

#[test]
fn limits_are_all_there() {
    macro_rules! rows {
        ($($name:ident),* $(,)?) => {
            [$(vec![format!("`{}`", stringify!($name)), limits::$name.to_string()]),*]
        };
    }
    let rows = rows![
        MAX_BATCH,
        MAX_TAGS,
        MAX_PORT,
        MAX_MANIFEST,
        MAX_MODULE,
        MAX_CONFIG,
        MAX_UPDATE,
        DEFAULT_MEMORY,
        MAX_TEXT,
        MAX_METRICS,
        HISTOGRAM_BUCKETS,
        MAX_MAPS,
        MAX_KEY,
        MAX_VALUE,
        MAX_AT_ONCE,
        MAX_MAP_ENTRIES,
        MAX_NAME,
        DEFAULT_SNAP,
        MAX_FRAME,
        ALIGNMENT,
    ];
    let declared = LIMITS.lines().filter(|line| line.starts_with("pub const "));
    assert_eq!(rows.len(), declared.count(), "this test knows every limit");
    assert_none(&compare(&table("limit"), rows));
}

#[test]
fn links_lead_somewhere() {
    let anchor = |heading: &str| -> String {
        let kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
        let heading = heading.trim_start_matches(['#', ' ']).to_lowercase();
        heading.chars().filter(kept).map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    let mut anchors: Vec<String> =
        TEXT.lines().filter(|line| line.starts_with('#')).map(anchor).collect();
    anchors
        .extend(TEXT.split("<a id=\"").skip(1).filter_map(|s| Some(s.split_once('"')?.0.into())));

    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut complaints = Vec::new();
    for (line, text) in (1..).zip(TEXT.lines()) {
        for link in text.split("](").skip(1) {
            let target = link.split(')').next().unwrap_or_default();
            let found = match target.strip_prefix('#') {
                Some(name) => anchors.iter().any(|anchor| anchor == name),
                None => folder.join(target).is_file(),
            };
            if !found {
                complaints.push(format!("ABI.md:{line}: `{target}` is not there"));
            }
        }
    }
    assert_none(&complaints);
}
