//! Compiles the protocol into `OUT_DIR`: messages and the client's side of each service. Needs no `protoc`.

use std::path::PathBuf;

const PROTOS: [&str; 6] = [
    "lineshaft/v1/error_reason.proto",
    "lineshaft/v1/group.proto",
    "lineshaft/v1/task_service.proto",
    "lineshaft/v1/queue_service.proto",
    "lineshaft/v1/worker_service.proto",
    "lineshaft/v1/server_service.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.include_source_info(true).include_imports(true).open_files(PROTOS)?;
    tonic_prost_build::configure().build_server(false).bytes(".").compile_fds(compiler.file_descriptor_set())?;

    // The server's side, for the scripted server of this crate's tests. Only tests include the file, so the published
    // library carries none of it; a cargo feature would show in the crate's public list for no user's good.
    let server = PathBuf::from(std::env::var("OUT_DIR")?).join("scripted_server");
    std::fs::create_dir_all(&server)?;
    tonic_prost_build::configure()
        .build_client(false)
        .extern_path(".lineshaft.v1", "::lineshaft_client::proto")
        .out_dir(server)
        .compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}
