//! The object with the programs, and how a kernel takes it.
//!
//! Some kernels let programs look at the kernel's own packet, by a function that has another number
//! in each. The loader knows nothing of such calls. So the object has another instruction where one
//! may stand, behind a constant that keeps it from being run, and here the call takes its place.

use aya::{Btf, Ebpf, EbpfLoader, include_bytes_aligned};
use aya_obj::btf::BtfKind;

use crate::cache::{LoadError, ON_CHANGE, ON_PORTS, ON_PUNT, ON_TUNNEL, ON_UPLINK, program};
use crate::kernel::namespace_cookie;
use crate::pins::{MAPS, Pins, fits};
use crate::{Features, Settings};

/// Loads the programs, on pinned maps if there are any; says what of the kernel they use.
pub(crate) fn load(settings: Settings, pins: Option<&Pins>) -> Result<(Ebpf, Features), LoadError> {
    let kernel = Btf::from_sys_fs().ok();
    if settings.features.direct_checksums
        && let Some(object) = kernel.as_ref().and_then(with_calls)
        // a kernel that has the function may still not let programs call it
        && let Ok(ebpf) = load_as(&object, settings, pins, kernel.as_ref())
    {
        return Ok((ebpf, settings.features));
    }
    let features = Features { direct_checksums: false, ..settings.features };
    let settings = Settings { features, ..settings };
    Ok((load_as(OBJECT, settings, pins, kernel.as_ref())?, features))
}

fn load_as(
    object: &[u8],
    settings: Settings,
    pins: Option<&Pins>,
    kernel: Option<&Btf>,
) -> Result<Ebpf, LoadError> {
    let Settings { capacity, features } = settings;
    let set_packet_type = u8::from(!features.peer_marks_packets);
    let direct_checksums = u8::from(features.direct_checksums);
    let mut loader = EbpfLoader::new();
    loader.btf(kernel);
    for name in ["flows4", "flows6"] {
        loader.map_max_entries(name, capacity.0);
    }
    for name in ["punted4", "punted6"] {
        loader.map_max_entries(name, (capacity.0 / 4).max(LEAST_PUNTED));
    }
    // one for each connection: most have two entries, and some have none
    loader.map_max_entries("records", capacity.0.saturating_mul(2));
    // one for each entry, and the one that stands for none
    loader.map_max_entries("slots", capacity.0.saturating_mul(2).saturating_add(1));
    loader.override_global("set_packet_type", &set_packet_type, true);
    loader.override_global("direct_checksums", &direct_checksums, true);
    // none has 0
    let node_namespace = namespace_cookie().unwrap_or(0);
    loader.override_global("node_namespace", &node_namespace, true);
    if let Some(pins) = pins {
        for (name, ..) in MAPS {
            loader.map_pin_path(name, pins.map(name));
        }
    }
    let mut ebpf = loader.load(object)?;
    let whole = |&(name, key, value): &(_, usize, usize)| {
        ebpf.map(name).is_some_and(|map| fits(map, key, value))
    };
    if let Some((name, ..)) = MAPS.iter().find(|map| !whole(map)) {
        return Err(LoadError::OtherLayout(name));
    }
    for name in [ON_PORTS, ON_TUNNEL, ON_UPLINK, ON_PUNT, ON_CHANGE] {
        program(&mut ebpf, name).load()?;
    }
    Ok(ebpf)
}

/// The object with calls in their places; nothing if the kernel has no such function.
fn with_calls(kernel: &Btf) -> Option<Vec<u8>> {
    let number = kernel.id_by_type_name_kind(CAST, BtfKind::Func).ok()?;
    let mut object = OBJECT.to_vec();
    for instruction in places(&mut object) {
        *instruction = instruction_of(CALL, number);
    }
    Some(object)
}

/// Where calls may stand; instructions are 8 bytes, and aligned to as many.
fn places(object: &mut [u8]) -> impl Iterator<Item = &mut [u8; 8]> {
    let (instructions, _) = object.as_chunks_mut();
    let place = instruction_of(LOAD, CAST_PLACE);
    instructions.iter_mut().filter(move |instruction| **instruction == place)
}

/// An instruction of this code and these registers, with a number.
fn instruction_of([code, registers]: [u8; 2], number: u32) -> [u8; 8] {
    let [a, b, c, d] = number.to_ne_bytes();
    [code, registers, 0, 0, a, b, c, d]
}

/// The kernel's function: its own packet, of that which programs see.
const CAST: &str = "bpf_cast_to_kern_ctx";
/// `flow_cache.h`: what is loaded where a call may stand.
const CAST_PLACE: u32 = 0x6361_7374;
/// `BPF_ALU64 | BPF_MOV | BPF_K`, to r0.
const LOAD: [u8; 2] = [0xb7, 0];
/// `BPF_JMP | BPF_CALL`, from `BPF_PSEUDO_KFUNC_CALL`, which stands for the source register.
const CALL: [u8; 2] = [0x85, if cfg!(target_endian = "little") { 0x20 } else { 0x02 }];

/// The kernel evicts from a small map before it is full.
const LEAST_PUNTED: u32 = 4096;

static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/flow_cache.bpf.o"));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_object_has_a_place_for_each_family_in_each_program_that_rewrites() {
        let line = format!("#define CAST_PLACE {CAST_PLACE:#x}\n");
        assert!(include_str!("../bpf/flow_cache.h").contains(&line), "{line}");
        assert_eq!(places(&mut OBJECT.to_vec()).count(), 2 * 3);
    }
}
