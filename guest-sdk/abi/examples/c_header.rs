//! Prints `millrace.h`, the contract in C.

fn main() -> std::fmt::Result {
    let mut header = String::new();
    millrace_abi::header::write(&mut header)?;
    print!("{header}");
    Ok(())
}
