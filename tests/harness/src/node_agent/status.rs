//! The status of a Pod as a kubelet writes it.

use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting, ContainerStatus,
    PodCondition, PodIP, PodStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use std::net::Ipv4Addr;

use super::probe::Health;
use super::source::NODE_ADDRESS;

/// One container as the node knows it.
#[derive(Clone, Debug)]
pub(super) struct Known {
    name: String,
    image: String,
    pub(super) state: State,
    pub(super) restarts: i32,
    /// What its probes say; counts while it runs.
    pub(super) health: Health,
    last: Option<ContainerState>,
}

/// What a container is doing.
#[derive(Clone, Debug)]
pub(super) enum State {
    /// Not yet, or not again: a reason in Kubernetes' own words, and a message.
    Waiting(&'static str, String),
    /// Since then.
    Running(Timestamp),
    /// With this exit code, from then to then.
    Terminated {
        code: i32,
        started: Timestamp,
        finished: Timestamp,
        /// The end of its log, where it failed and asks for that (`terminationMessagePolicy`).
        message: Option<String>,
    },
}

impl State {
    /// How it ended, once it has.
    pub(super) fn exit_code(&self) -> Option<i32> {
        match self {
            Self::Terminated { code, .. } => Some(*code),
            Self::Waiting(..) | Self::Running(_) => None,
        }
    }
}

impl Known {
    pub(super) fn of(container: &Container, waiting: &'static str) -> Self {
        Self {
            name: container.name.clone(),
            image: container.image.clone().unwrap_or_default(),
            state: State::Waiting(waiting, String::new()),
            restarts: 0,
            health: Health::GOOD,
            last: None,
        }
    }

    /// Sets the state; the end before a new start is kept as the last state.
    pub(super) fn become_state(&mut self, state: State) {
        if matches!(self.state, State::Terminated { .. }) {
            self.last = Some(self.container_state());
        }
        self.state = state;
    }

    fn container_state(&self) -> ContainerState {
        let mut state = ContainerState::default();
        match &self.state {
            State::Waiting(reason, message) => {
                let message = (!message.is_empty()).then(|| message.clone());
                state.waiting = Some(ContainerStateWaiting {
                    reason: Some((*reason).to_owned()),
                    message,
                });
            }
            State::Running(started) => {
                state.running = Some(ContainerStateRunning {
                    started_at: Some(Time(*started)),
                });
            }
            State::Terminated {
                code,
                started,
                finished,
                message,
            } => {
                state.terminated = Some(ContainerStateTerminated {
                    exit_code: *code,
                    reason: Some(if *code == 0 { "Completed" } else { "Error" }.to_owned()),
                    started_at: Some(Time(*started)),
                    finished_at: Some(Time(*finished)),
                    message: message.clone(),
                    ..ContainerStateTerminated::default()
                });
            }
        }
        state
    }

    fn is_running(&self) -> bool {
        matches!(self.state, State::Running(_))
    }

    fn has_succeeded(&self) -> bool {
        self.state.exit_code() == Some(0)
    }

    fn is_ready(&self) -> bool {
        self.is_running() && self.health.ready
    }

    fn status(&self, counts_as_ready: bool) -> ContainerStatus {
        ContainerStatus {
            name: self.name.clone(),
            image: self.image.clone(),
            image_id: String::new(),
            ready: counts_as_ready,
            started: Some(self.is_running() && self.health.started),
            restart_count: self.restarts,
            state: Some(self.container_state()),
            last_state: self.last.clone(),
            ..ContainerStatus::default()
        }
    }
}

/// All of it: `phase` is the caller's decision, the rest follows from the containers. The last `sidecars` of `main` are reported
/// among the init containers.
pub(super) fn pod_status(
    phase: &str,
    address: Ipv4Addr,
    started: Timestamp,
    init: &[Known],
    main: &[Known],
    sidecars: usize,
) -> PodStatus {
    let initialized = init.iter().all(Known::has_succeeded);
    let ready = initialized && main.iter().all(Known::is_ready);
    let (containers, sidecars) = main.split_at(main.len() - sidecars);
    let condition = |name: &str, holds: bool| PodCondition {
        type_: name.to_owned(),
        status: if holds { "True" } else { "False" }.to_owned(),
        ..PodCondition::default()
    };
    PodStatus {
        phase: Some(phase.to_owned()),
        conditions: Some(vec![
            condition("PodScheduled", true),
            condition("Initialized", initialized),
            condition("ContainersReady", ready),
            condition("Ready", ready),
        ]),
        host_ip: Some(NODE_ADDRESS.to_owned()),
        pod_ip: Some(address.to_string()),
        pod_ips: Some(vec![PodIP {
            ip: address.to_string(),
        }]),
        start_time: Some(Time(started)),
        init_container_statuses: Some(
            (init.iter().map(|one| one.status(one.has_succeeded())))
                .chain(sidecars.iter().map(|one| one.status(one.is_ready())))
                .collect(),
        ),
        container_statuses: Some(containers.iter().map(|one| one.status(one.is_ready())).collect()),
        ..PodStatus::default()
    }
}
