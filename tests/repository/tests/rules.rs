//! The rules, applied to the repository that this crate is part of.

use std::sync::LazyLock;

use millrace_repository_tests::{
    Complaint, Repository, levels, manifests, texts, unsafety, unwraps, walks,
};

static REPOSITORY: LazyLock<Repository> = LazyLock::new(Repository::open);

#[track_caller]
fn assert_none(complaints: Vec<Complaint>) {
    let lines: Vec<_> = complaints.iter().map(|complaint| format!("\n  {complaint}")).collect();
    assert!(lines.is_empty(), "{}\n", lines.concat());
}

#[test]
fn the_rules_see_this_crate() {
    let Repository { packages, files } = &*REPOSITORY;
    let ours = packages.iter().find(|package| package.name == env!("CARGO_PKG_NAME"));
    let ours = ours.expect("this crate is a member of the workspace");
    for file in ["Cargo.toml", "src/lib.rs", "tests/rules.rs"] {
        let path = ours.folder().join(file);
        assert!(files.iter().any(|file| file.path == path), "{} is missing", path.display());
    }
}

#[test]
fn dependencies_point_to_lower_levels() {
    assert_none(levels::complaints(&REPOSITORY.packages));
}

#[test]
fn every_crate_is_a_member_of_the_workspace() {
    assert_none(manifests::outside_the_workspace(&REPOSITORY.packages, &REPOSITORY.files));
}

#[test]
fn every_crate_takes_the_lints_of_the_workspace() {
    assert_none(manifests::without_lints(&REPOSITORY.packages, &REPOSITORY.files));
}

#[test]
fn every_crate_opens_with_its_documentation() {
    assert_none(manifests::without_documentation(&REPOSITORY.packages, &REPOSITORY.files));
}

#[test]
fn unsafe_code_is_in_the_listed_files_alone() {
    assert_none(unsafety::outside_the_list(&REPOSITORY.files, unsafety::FILES));
}

#[test]
fn every_listed_file_has_unsafe_code() {
    assert_none(unsafety::listed_in_vain(&REPOSITORY.files, unsafety::FILES));
}

#[test]
fn every_unsafe_block_says_why_it_holds() {
    assert_none(unsafety::without_a_reason(&REPOSITORY.files));
}

#[test]
fn the_breadcrumbs_of_a_walk_agree() {
    assert_none(walks::complaints(&REPOSITORY.files));
}

#[test]
fn no_file_names_a_path_of_one_machine() {
    assert_none(texts::machine_paths(&REPOSITORY.files));
}

#[test]
fn no_file_names_a_package_registry() {
    assert_none(texts::registry_hosts(&REPOSITORY.files));
}

#[test]
fn every_reminder_has_an_issue() {
    assert_none(texts::loose_ends(&REPOSITORY.files));
}

#[test]
fn no_rust_file_is_too_long_to_be_read() {
    assert_none(texts::long_files(&REPOSITORY.packages, &REPOSITORY.files));
}

#[test]
fn nothing_is_unwrapped_outside_of_tests() {
    assert_none(unwraps::complaints(&REPOSITORY.packages, &REPOSITORY.files));
}
