//! stub
pub fn run(_: &[String]) -> crate::error::Result<i32> {
    Ok(0)
}
