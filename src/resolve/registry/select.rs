//! Which entry of a registry's list is meant. Pure.

use serde::Deserialize;

/// A registered model, a version or an artifact, as far as choosing needs it. Every field may be missing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Item {
    pub(super) id: Option<String>,
    pub(super) name: Option<String>,
    pub(super) state: Option<String>,
    /// Milliseconds in decimal.
    pub(super) create_time_since_epoch: Option<String>,
    pub(super) artifact_type: Option<String>,
    pub(super) uri: Option<String>,
}

impl Item {
    /// When it was made, then its number: two of the same millisecond were numbered in order.
    fn age(&self) -> (u64, u64) {
        let number = |text: &Option<String>| text.as_deref().and_then(|text| text.trim().parse().ok()).unwrap_or(0);
        (number(&self.create_time_since_epoch), number(&self.id))
    }

    fn is_in(&self, states: &[&str]) -> bool {
        self.state.as_deref().is_some_and(|state| states.iter().any(|known| state.eq_ignore_ascii_case(known)))
    }

    /// Whether somebody put it away. A model or version without a state is in use.
    pub(super) fn is_archived(&self) -> bool {
        self.state.is_some() && !self.is_in(&["LIVE"])
    }

    /// Whether it says where a model is, and nobody took it back. Clients leave the state `UNKNOWN`.
    pub(super) fn is_model_artifact(&self) -> bool {
        self.artifact_type.as_deref() == Some("model-artifact")
            && !self.is_in(&["MARKED_FOR_DELETION", "DELETED", "ABANDONED"])
    }

    /// What people call it.
    pub(super) fn title(&self) -> &str {
        self.name.as_deref().or(self.id.as_deref()).unwrap_or("?")
    }
}

/// The newer of what was best so far and the next.
pub(super) fn newer(best: Option<Item>, next: Item) -> Option<Item> {
    match best {
        Some(best) if next.age() <= best.age() => Some(best),
        _ => Some(next),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(id: &str, created: &str, state: &str, kind: &str) -> Item {
        serde_json::from_value(serde_json::json!({
            "id": id, "name": format!("v{id}"), "createTimeSinceEpoch": created, "state": state, "artifactType": kind,
            "unknownField": {"a": 1},
        }))
        .unwrap()
    }

    fn newest(items: Vec<Item>, wanted: fn(&Item) -> bool) -> Option<String> {
        items.into_iter().filter(wanted).fold(None, newer).and_then(|item| item.id)
    }

    #[test]
    fn the_latest_version_is_the_live_one_made_last_whatever_its_number() {
        let live: fn(&Item) -> bool = |item| !item.is_archived();
        let version = |id: &str, created: &str, state: &str| item(id, created, state, "");
        for (items, expected) in [
            (vec![version("9", "100", "LIVE"), version("2", "200", "LIVE")], Some("2")),
            (vec![version("2", "200", "LIVE"), version("9", "100", "LIVE")], Some("2")),
            (vec![version("1", "100", "LIVE"), version("2", "200", "ARCHIVED")], Some("1")),
            (vec![version("9", "5", "LIVE"), version("10", "5", "LIVE")], Some("10")),
            // 1000 is after 999, though not by its letters.
            (vec![version("1", "999", "LIVE"), version("2", "1000", "live")], Some("2")),
            (vec![version("1", "100", "ARCHIVED")], None),
            (vec![], None),
        ] {
            assert_eq!(newest(items.clone(), live).as_deref(), expected, "{items:?}");
        }
        assert!(!Item::default().is_archived());
    }

    #[test]
    fn the_artifact_is_the_newest_model_that_nobody_took_back() {
        let artifact = |id: &str, created: &str, state: &str, kind: &str| item(id, created, state, kind);
        let model = "model-artifact";
        for (items, expected) in [
            (vec![artifact("1", "1", "UNKNOWN", model), artifact("2", "2", "LIVE", "doc-artifact")], Some("1")),
            (vec![artifact("1", "1", "LIVE", model), artifact("2", "2", "DELETED", model)], Some("1")),
            (vec![artifact("1", "1", "PENDING", model), artifact("2", "2", "ABANDONED", model)], Some("1")),
            (vec![artifact("1", "1", "LIVE", model), artifact("2", "2", "MARKED_FOR_DELETION", model)], Some("1")),
            (vec![artifact("1", "1", "LIVE", model), artifact("2", "2", "REFERENCE", model)], Some("2")),
            (vec![artifact("1", "1", "LIVE", "metric"), artifact("2", "2", "LIVE", "parameter")], None),
            (vec![artifact("1", "1", "LIVE", "dataset-artifact")], None),
        ] {
            assert_eq!(newest(items.clone(), Item::is_model_artifact).as_deref(), expected, "{items:?}");
        }
    }
}
