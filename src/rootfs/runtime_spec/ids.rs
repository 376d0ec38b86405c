//! Users and groups named after containers.

use std::collections::HashMap;

use crate::blueprint::{Blueprint, Id, Spanned};
use crate::{Error, Result};

/// The number of every container's user, which is that of its group too: 100 upward over onboot, onshutdown and
/// services. A name that is there twice has its last number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IdMap(HashMap<String, u32>);

/// The first number that is given.
const FIRST: u32 = 100;

impl IdMap {
    /// Numbers the containers of a blueprint.
    pub fn number(blueprint: &Blueprint) -> IdMap {
        let names = blueprint.containers().map(|image| image.name.value.clone());
        IdMap(names.zip(FIRST..).collect())
    }

    /// The number of a user or group.
    pub fn resolve(&self, id: &Spanned<Id>) -> Result<u32> {
        match (&id.value, id.container()) {
            (Id::Number(number), _) => Ok(*number),
            (Id::Name(_), None) => Ok(0),
            (Id::Name(_), Some(name)) => self.0.get(name).copied().ok_or_else(|| {
                let message = format!("no container has the name `{name}`, so it is no user or group");
                Error::mistakes(format!("1 mistake in {}", id.place.source().name()), vec![id.place.mistake(message)])
            }),
        }
    }

    /// The number of an optional user or group; 0 if there is none.
    pub fn resolve_or_root(&self, id: Option<&Spanned<Id>>) -> Result<u32> {
        id.map_or(Ok(0), |id| self.resolve(id))
    }
}
