//! `process` of config.json: what runs, as whom, with which rights.

use super::ids::IdMap;
use super::precedence::Precedence;
use super::{OciConfig, Result};
use crate::blueprint::{CAPABILITIES, MapBuilder, Spanned, Value};

/// The capabilities of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// In the order in which they were given.
    pub effective: Vec<String>,
    /// In the order in which they were given.
    pub ambient: Vec<String>,
    /// All of both, sorted: the bounding, inheritable and permitted sets.
    pub bounding: Vec<String>,
}

impl Capabilities {
    /// Those that label and blueprint give.
    pub fn of(settings: Precedence<'_>) -> Capabilities {
        let effective = settings.added(|settings| &settings.capabilities, |settings| &settings.capabilities_add);
        let effective = expanded(effective);
        let ambient = expanded(settings.list(|settings| &settings.ambient).iter().collect());
        let mut bounding: Vec<String> = effective.iter().chain(&ambient).cloned().collect();
        bounding.sort_unstable();
        bounding.dedup();
        Capabilities { effective, ambient, bounding }
    }

    /// Whether there is none that is missing.
    pub fn everything(&self) -> bool {
        self.bounding.len() == CAPABILITIES.len()
    }

    /// Whether the container may have this one.
    pub fn has(&self, name: &str) -> bool {
        self.bounding.iter().any(|known| known == name)
    }

    fn to_value(&self) -> Value {
        let mut map = MapBuilder::default();
        for (key, list) in [
            ("bounding", &self.bounding),
            ("effective", &self.effective),
            ("inheritable", &self.bounding),
            ("permitted", &self.bounding),
            ("ambient", &self.ambient),
        ] {
            map.maybe(key, (!list.is_empty()).then(|| Value::texts(list)));
        }
        map.build()
    }
}

/// The words `all` and `none` replaced; what is there twice dropped.
fn expanded(names: Vec<&Spanned<String>>) -> Vec<String> {
    if names.iter().any(|name| name.eq_ignore_ascii_case("all")) {
        return CAPABILITIES.iter().map(|name| (*name).to_owned()).collect();
    }
    let mut all: Vec<String> = Vec::new();
    for name in names {
        if !name.eq_ignore_ascii_case("none") && !all.contains(&name.value) {
            all.push(name.value.clone());
        }
    }
    all
}

/// `process`.
pub fn process(settings: Precedence<'_>, oci: &OciConfig, ids: &IdMap, capabilities: &Capabilities) -> Result<Value> {
    let mut user = MapBuilder::default();
    user.put("uid", Value::Integer(ids.resolve_or_root(settings.first(|settings| &settings.uid))?.into()));
    user.put("gid", Value::Integer(ids.resolve_or_root(settings.first(|settings| &settings.gid))?.into()));
    let groups = settings.list(|settings| &settings.additional_gids);
    let groups = groups.iter().map(|id| Ok(Value::Integer(ids.resolve(id)?.into()))).collect::<Result<Vec<_>>>()?;
    user.maybe("additionalGids", (!groups.is_empty()).then_some(Value::List(groups)));

    let given = |list: Option<&Vec<Spanned<String>>>, default: Vec<&String>| -> Option<Value> {
        let value = list.map_or_else(|| Value::texts(default), Value::texts);
        (!value.is_empty()).then_some(value)
    };
    let command = oci.entrypoint.iter().chain(&oci.cmd).collect();
    let mut map = MapBuilder::default();
    map.put("user", user.build());
    map.maybe("args", given(settings.first(|settings| &settings.command), command));
    map.maybe("env", given(settings.first(|settings| &settings.env), oci.env.iter().collect()));
    let own = Some(oci.working_dir.as_str()).filter(|folder| !folder.is_empty());
    map.put("cwd", Value::text(settings.text(|settings| &settings.cwd).or(own).unwrap_or("/")));
    map.put("capabilities", capabilities.to_value());
    let limits: Vec<Value> = settings
        .list(|settings| &settings.rlimits)
        .iter()
        .map(|limit| {
            let mut map = MapBuilder::default();
            map.put("type", Value::text(limit.name)).put("hard", Value::Integer(limit.hard.into()));
            map.put("soft", Value::Integer(limit.soft.into())).build()
        })
        .collect();
    map.maybe("rlimits", (!limits.is_empty()).then_some(Value::List(limits)));
    let no_new_privileges = settings.truth(|settings| &settings.no_new_privileges);
    map.maybe("noNewPrivileges", no_new_privileges.then_some(Value::Bool(true)));
    let score = settings.first(|settings| &settings.oom_score_adj);
    map.maybe("oomScoreAdj", score.map(|score| Value::Integer(score.value.into())));
    Ok(map.build())
}
