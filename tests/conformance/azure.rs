//! Azure Blob Storage: Azurite, asked by links that the account's key signs.

use super::between::{Asked, Between, Fault};
use super::site::{Expiring, Holds, Lists, Objects, Place, Site, States, canary};
use crate::rig::azure::{ACCOUNT, Container, KEY};
use crate::rig::azurite;
use crate::rig::dray::Dray;

pub(crate) const AZURE: Site = Site { name: "az", open: |objects| Box::new(Azure::open(objects)) };

/// Blobs of a page.
const PAGE: usize = 9;

struct Azure {
    container: Container,
    front: Between,
}

fn paged(target: &str) -> String {
    let Some((head, rest)) = target.split_once("maxresults=") else { return target.to_owned() };
    format!("{head}maxresults={PAGE}{}", rest.trim_start_matches(|digit: char| digit.is_ascii_digit()))
}

impl Azure {
    fn open(objects: &Objects<'_>) -> Self {
        let container = azurite().container(&canary("azure"));
        let front = Between::rewriting(&container.host(), paged);
        let this = Self { container, front };
        this.put(objects);
        this
    }
}

impl Place for Azure {
    fn put(&self, objects: &Objects<'_>) {
        self.container.put_all(objects);
    }

    fn uri(&self, path: &str) -> String {
        self.container.uri(path)
    }

    fn here(&self, dray: Dray) -> Dray {
        dray.env("AZURE_STORAGE_ENDPOINT", self.front.url(&format!("/{ACCOUNT}"))).env("AZURE_STORAGE_ACCESS_KEY", KEY)
    }

    fn front(&self) -> &Between {
        &self.front
    }

    fn canaries(&self) -> Vec<String> {
        vec![KEY.to_owned()]
    }

    fn credentials(&self) -> &'static str {
        "AZURE_STORAGE_ACCESS_KEY"
    }

    fn is_list(&self, asked: &Asked) -> bool {
        asked.target.contains("comp=list")
    }

    fn is_pinned(&self, asked: &Asked) -> bool {
        asked.header("if-match").starts_with('"')
    }

    fn lists(&self) -> Lists {
        Lists::Pages(PAGE)
    }

    fn holds(&self) -> Holds {
        Holds::SafeNames
    }

    fn states(&self) -> States {
        States::Checksum
    }

    fn expiring(&self, _: usize) -> Option<Expiring> {
        None
    }

    fn denial(&self) -> Fault {
        let code = "AuthorizationPermissionMismatch";
        Fault::status(403, &format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>no</Message></Error>"))
    }
}
