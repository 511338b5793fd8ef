pub mod machinery {
    use crate::task::*;
    pub struct Decoded {
        pub signature: Signature,
        pub args_error: Option<String>,
    }
    pub fn decode(_: &[u8]) -> Result<Decoded, String> {
        todo!()
    }
    pub fn encode(_: &Signature) -> bytes::Bytes {
        todo!()
    }
    pub fn digest(_: &Signature) -> [u8; 32] {
        todo!()
    }
    pub fn results_len(_: &[Arg]) -> usize {
        todo!()
    }
    pub fn encode_results(_: &[Arg]) -> Vec<u8> {
        todo!()
    }
}
