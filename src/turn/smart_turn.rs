//! stand-in until merged
use std::path::Path;
pub struct SmartTurn;
#[derive(Debug, thiserror::Error)]
#[error("x")]
pub struct TurnError;
impl SmartTurn {
    pub fn load(_: &Path) -> Result<SmartTurn, TurnError> {
        Err(TurnError)
    }
    pub fn probability(&mut self, _: &[f32]) -> Result<f32, TurnError> {
        Err(TurnError)
    }
}
