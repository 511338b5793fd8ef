//! Compiles `proto/` into `OUT_DIR`: the server's side of each service, and the descriptor set that reflection serves.
//!
//! The messages themselves come from `lineshaft-client`, so that server, client and tests share one set of types.

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
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    let mut compiler = protox::Compiler::new(["proto"])?;
    // With comments, so that what `grpcurl describe` shows is the specification.
    compiler.include_source_info(true).include_imports(true).open_files(PROTOS)?;
    std::fs::write(out.join("lineshaft.v1.descriptors"), compiler.encode_file_descriptor_set())?;
    tonic_prost_build::configure()
        .build_client(false)
        .codec_path("crate::api::codec::Codec")
        .extern_path(".lineshaft.v1", "::lineshaft_client::proto")
        .compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}
