//! Parsing ops.
/// e
#[derive(Debug)]
pub struct ParseError;
/// p
pub fn parse(_t: &str) -> Result<crate::Block, ParseError> {
    Err(ParseError)
}
