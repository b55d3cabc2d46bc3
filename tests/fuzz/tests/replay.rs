//! What fuzzing has found, and what it begins with, run as it is.

use std::fs;
use std::path::Path;

use millrace_fuzz::TARGETS;

#[test]
fn what_was_found_does_no_harm_any_more() {
    for target in TARGETS {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("finds").join(target.name);
        // a target that has found nothing has no folder
        for file in fs::read_dir(folder).into_iter().flatten() {
            let path = file.expect("the folder can be read").path();
            println!("{}", path.display());
            (target.run)(&fs::read(&path).expect("the file can be read"));
        }
    }
}

#[test]
fn finds_are_of_targets_that_there_are() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("finds");
    for file in fs::read_dir(folder).into_iter().flatten() {
        let name = file.expect("the folder can be read").file_name();
        assert!(TARGETS.iter().any(|target| name == target.name), "{}", name.display());
    }
}

#[test]
fn seeds_are_taken_and_so_is_each_with_an_octet_changed() {
    for target in TARGETS {
        for seed in (target.seeds)() {
            println!("{}: {seed:02x?}", target.name);
            (target.run)(&seed);
            for at in 0..seed.len() {
                let mut changed = seed.clone();
                changed[at] ^= 1 << (at % 8);
                (target.run)(&changed);
            }
        }
    }
}

#[test]
fn good_frames_and_modules_get_past_the_checks() {
    for frame in millrace_fuzz::seeds::frames() {
        let mut slot = millrace_abi::Slot::ZERO;
        assert!(millrace_parse::parse(&frame, &mut slot).is_ok(), "{frame:02x?}");
    }
    let modules = millrace_fuzz::seeds::modules();
    for module in modules.iter().filter(|seed| seed.starts_with(b"\0asm")) {
        assert!(millrace_sandbox::check(module, 1 << 20).is_ok());
    }
}
