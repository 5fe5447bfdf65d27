//! Joins devices and monitors with the far ends their configuration names.

use std::io;

use devices::chardev::{CharBackend, NullChar};
use devices::virtio::{NetBackend, NoNet};

use super::net::SocketCable;
use super::{CharTarget, MachineConfig, MachineError, SocketTarget};
use crate::console::{CharConfig, Host};
use crate::gdb::Gdb;
use crate::monitor::{Monitor, Qmp};

/// Far ends opened so far.
pub(super) struct Lines {
    chardevs: Vec<CharConfig>,
    hosts: Vec<Host>,
    escape: u8,
    is_counted: bool,
    /// Devices whose far end is none of the host's, in words.
    others: Vec<String>,
}

impl Lines {
    pub(super) fn new(config: &MachineConfig) -> Self {
        Self {
            chardevs: config.chardevs.clone(),
            hosts: Vec::new(),
            escape: config.escape,
            is_counted: config.icount_shift.is_some(),
            others: Vec::new(),
        }
    }

    /// The far end of a device called `label`.
    pub(super) fn device(
        &mut self,
        target: &CharTarget,
        label: &str,
    ) -> Result<Option<Box<dyn CharBackend>>, MachineError> {
        Ok(match target {
            CharTarget::None => None,
            CharTarget::Null => {
                self.others.push(format!("{label}: filename=null"));
                Some(Box::new(NullChar))
            }
            CharTarget::Buffer(buffer) => Some(Box::new(buffer.clone())),
            CharTarget::Chardev(id) => match self.named(id)? {
                Some(host) => Some(Box::new(host.line().front(false))),
                None => Some(Box::new(NullChar)),
            },
            target => {
                let host = self.open(target, label, false)?;
                host.map(|host| Box::new(host.line().front(false)) as Box<dyn CharBackend>)
            }
        })
    }

    /// The cable of a network card called `label`.
    pub(super) fn cable(
        &mut self,
        target: Option<&SocketTarget>,
        label: &str,
    ) -> Result<Box<dyn NetBackend>, MachineError> {
        let Some(target) = target else { return Ok(Box::new(NoNet)) };
        let host = self.open(&CharTarget::Socket(target.clone()), label, false)?;
        Ok(match host {
            Some(host) => Box::new(SocketCable::new(host.line().front(true))),
            None => Box::new(NoNet),
        })
    }

    /// All monitors.
    pub(super) fn monitors(
        &mut self,
        config: &MachineConfig,
    ) -> Result<Vec<Monitor>, MachineError> {
        let mut monitors = Vec::new();
        for target in &config.monitors {
            let label = format!("compat_monitor{}", monitors.len());
            let host = match target {
                CharTarget::Chardev(id) => self.named(id)?,
                target => self.open(target, &label, false)?,
            };
            if let Some(host) = host {
                monitors.push(Monitor::new(host.line().front(true), host.is_interactive()));
            }
        }
        Ok(monitors)
    }

    /// All monitors for programs.
    pub(super) fn controls(&mut self, config: &MachineConfig) -> Result<Vec<Qmp>, MachineError> {
        let mut controls = Vec::new();
        for (n, target) in config.controls.iter().enumerate() {
            let host = match target {
                CharTarget::Chardev(id) => self.named(id)?,
                target => self.open(target, &format!("qmp{n}"), false)?,
            };
            controls.extend(host.map(|host| Qmp::new(host.line().front(true))));
        }
        Ok(controls)
    }

    /// The gdb server.
    pub(super) fn gdb(&mut self, config: &MachineConfig) -> Result<Option<Gdb>, MachineError> {
        let Some(target) = &config.gdb else { return Ok(None) };
        let host = self.open(target, "gdb", false)?;
        Ok(host.map(|host| Gdb::new(host.line().front(true))))
    }

    /// The named far end, opened when first used; `None` if it is no far end of the host's.
    fn named(&mut self, id: &str) -> Result<Option<&Host>, MachineError> {
        if let Some(n) = self.hosts.iter().position(|host| host.line().label() == id) {
            return Ok(self.hosts.get(n));
        }
        let found = self.chardevs.iter().find(|chardev| chardev.id == id).cloned();
        let found = found.ok_or_else(|| MachineError::Line {
            what: format!("chardev {id}"),
            source: io::Error::from(io::ErrorKind::NotFound),
        })?;
        self.open(&found.target, id, found.mux)
    }

    fn open(
        &mut self,
        target: &CharTarget,
        label: &str,
        mux: bool,
    ) -> Result<Option<&Host>, MachineError> {
        let opened = Host::open(target, label, mux.then_some(self.escape));
        let opened = opened.map_err(|source| match target {
            CharTarget::File(path) | CharTarget::Append(path) => {
                MachineError::Output { path: path.clone(), source }
            }
            target => MachineError::Line { what: format!("{target} for {label}"), source },
        })?;
        Ok(match opened {
            Some(host) => {
                if self.is_counted {
                    host.line().hide_pace();
                }
                self.hosts.push(host);
                self.hosts.last()
            }
            None => None,
        })
    }

    /// Devices whose far end is none of the host's.
    pub(super) fn others(&self) -> &[String] {
        &self.others
    }

    /// Everything opened.
    pub(super) fn into_hosts(self) -> Vec<Host> {
        self.hosts
    }
}
