//! The `dray` command: everything is in the library, so that tests and other programs can reach it.

fn main() -> std::process::ExitCode {
    dray::cli::main()
}
