//! Services with agents that do at once what they are told.

use offtake_protocol::rest::{JobQuery, JobView, Scale, ServiceView};

use super::*;

const CHAT: &str = r#"{"command": ["serve"], "name": "chat", "service": {"replicas": 3}, "gangs": [{"chips": 1}]}"#;

impl World {
    fn view(&self, job: u64) -> JobView {
        self.core.job(&operator(), job).expect("a known job").job
    }

    fn service(&self, service: u64) -> ServiceView {
        self.view(service).service.expect("it is a service")
    }

    /// Its replicas that are not over, the youngest first.
    fn replicas(&self, service: u64) -> Vec<JobView> {
        let mut jobs = self.core.live_jobs(&operator(), &JobQuery::default()).expect("a plain query");
        jobs.retain(|job| job.replica_of == Some(service));
        jobs
    }

    /// The one worker of a replica ends by itself.
    fn end_worker(&mut self, replica: u64, exit: &Exit) {
        let node = self.view(replica).nodes[0].clone();
        let agent = self.agents.get_mut(&node).expect("a known agent");
        let (_, (phase, ranks)) =
            agent.tasks.iter_mut().rfind(|(task, _)| task.job == replica).expect("the replica is there");
        *phase = TaskPhase::Ended(end(ranks, exit));
        self.settle();
    }

    /// Time passes, and nodes are heard of meanwhile.
    fn wait(&mut self, seconds: i64) {
        for _ in 0..seconds {
            self.now += 1000;
            self.settle();
        }
    }
}

#[test]
fn a_service_runs_its_replicas_until_it_is_cancelled() {
    let mut world = World::new(&["a", "b"]);
    let chat = world.submit(CHAT);
    assert_eq!(world.state(chat), JobState::Starting);
    world.settle();
    assert_eq!(
        (world.state(chat), world.service(chat).running, world.service(chat).replicas),
        (JobState::Running, 3, 3)
    );
    let ids: Vec<u64> = world.replicas(chat).iter().map(|job| job.id).collect();
    assert_eq!(ids, [chat + 3, chat + 2, chat + 1], "replicas are jobs like others");
    assert_eq!(world.submit(ONE), chat + 4, "and numbered with them");
    let why = world.core.why(&operator(), chat, false).expect("a known job");
    assert_eq!(why.summary, format!("Service {chat} runs 3 of 3 replicas."));
    world.restart();
    world.settle();
    assert_eq!(world.service(chat).running, 3, "a restart of the server moves none");
    world.ask(&operator(), Command::Cancel { job: chat, signal: None, now: false }).expect("it can be cancelled");
    assert_eq!(world.state(chat), JobState::Stopping);
    world.restart();
    world.settle();
    assert_eq!(world.state(chat), JobState::Cancelled);
    assert!(ids.iter().all(|id| world.state(*id) == JobState::Cancelled));
    assert!(world.core.state().service(offtake_engine::ServiceId(chat)).is_none(), "nothing is left of it");
    world.restart();
    assert_eq!(world.state(chat), JobState::Cancelled);
}

#[test]
fn a_replica_that_ends_starts_again_after_a_pause_that_grows() {
    let mut world = World::new(&["a"]);
    let chat = world.submit(&CHAT.replace('3', "1"));
    let replica = chat + 1;
    world.settle();
    // However it ends.
    for (round, exit) in [Exit::Status(0), Exit::Status(1), Exit::Signal(9)].iter().enumerate() {
        let pause = 1 << round;
        world.end_worker(replica, exit);
        assert_eq!((world.state(replica), world.service(chat).running), (JobState::Held, 0));
        assert_eq!(world.state(chat), JobState::Pending);
        world.restart();
        world.wait(pause - 1);
        assert_eq!(world.state(replica), JobState::Held, "round {round}");
        world.wait(1);
        assert_eq!((world.state(replica), world.view(replica).attempts), (JobState::Running, round as u32 + 2));
    }
    world.wait(600);
    world.end_worker(replica, &Exit::Status(1));
    world.wait(1);
    assert_eq!(world.state(replica), JobState::Running, "one that ran long starts again as if it had never failed");
}

#[test]
fn a_replica_gives_its_place_to_another_when_it_is_cancelled_or_has_ended_too_often() {
    let mut world = World::new(&["a"]);
    let chat = world.submit(&CHAT.replace('3', "1"));
    world.settle();
    world.ask(&operator(), Command::Cancel { job: chat + 1, signal: None, now: false }).expect("it can be cancelled");
    world.settle();
    assert_eq!((world.state(chat + 1), world.state(chat + 2)), (JobState::Cancelled, JobState::Running));
    for _ in 1..super::super::services::MOST_ATTEMPTS {
        world.end_worker(chat + 2, &Exit::Status(1));
        world.now += 300_000;
        world.agents.keys().cloned().collect::<Vec<_>>().iter().for_each(|node| drop(world.exchange(node)));
        world.settle();
    }
    world.end_worker(chat + 2, &Exit::Status(1));
    assert_eq!((world.state(chat + 2), world.state(chat + 3)), (JobState::Cancelled, JobState::Running));
    world.restart();
}

#[test]
fn a_replica_of_a_lost_node_starts_elsewhere() {
    let mut world = World::new(&["a", "b"]);
    let chat = world.submit(&CHAT.replace('3', "1"));
    world.settle();
    let node = world.view(chat + 1).nodes[0].clone();
    world.agents.remove(&node);
    world.wait(31);
    let replica = world.view(chat + 1);
    assert_eq!((replica.state, replica.attempts), (JobState::Running, 2));
    assert_ne!(replica.nodes[0], node);
}

#[test]
fn what_a_service_cannot_be_is_refused() {
    let mut world = World::new(&["a"]);
    let mut refused = |text: &str, code: &str| {
        let file: JobFile = serde_json::from_str(text).expect("a job file");
        let problem = world.ask(&operator(), Command::Submit(vec![file])).expect_err("it cannot be");
        assert_eq!(problem.code, code, "{problem:?}");
        problem.detail
    };
    let told = refused(&CHAT.replace("3}", r#"3, "spread": "moon"}"#), "unplaceable");
    assert!(told.contains("`moon`"), "{told}");
    refused(&CHAT.replace(r#""chips": 1"#, r#""chips": 5"#), "unplaceable");
    refused(&CHAT.replace("3}", r#"3, "minimum": 1}"#), "invalid_job");
    let chat = world.submit(CHAT);
    for command in [Command::Hold(chat), Command::Requeue(chat)] {
        let problem = world.ask(&operator(), command).expect_err("a service is no job");
        assert_eq!(problem.code, "is_a_service");
    }
    assert!(world.ask(&member("ada"), Command::Cancel { job: chat, signal: None, now: false }).is_err());
}

impl World {
    fn scale(
        &mut self,
        job: u64,
        replicas: Option<u32>,
        minimum: Option<u32>,
        maximum: Option<u32>,
    ) -> Result<Answer, Problem> {
        let scale = Scale { replicas, minimum, maximum };
        let answer = self.ask(&operator(), Command::Scale { job, scale });
        self.settle();
        answer
    }

    fn demand(&mut self, job: u64, replicas: u32) {
        self.ask(&operator(), Command::Demand { job, replicas }).expect("it is a service");
        self.settle();
    }
}

#[test]
fn a_service_follows_its_bounds_and_its_demand() {
    let mut world = World::new(&["a", "b"]);
    let chat = world.submit(&CHAT.replace(r#""replicas": 3"#, r#""minimum": 1, "maximum": 4"#));
    world.settle();
    assert_eq!(world.service(chat).running, 1);
    world.demand(chat, 9);
    assert_eq!((world.service(chat).running, world.service(chat).replicas), (4, 4), "no more than it may have");
    world.scale(chat, None, None, Some(6)).expect("it is a service");
    assert_eq!(world.service(chat).running, 6, "what was asked for is remembered");
    world.demand(chat, 0);
    let left: Vec<u64> = world.replicas(chat).iter().map(|job| job.id).collect();
    assert_eq!(left, [chat + 1], "the oldest stays, and no fewer than it must have");
    world.scale(chat, Some(3), None, None).expect("it is a service");
    let view = world.service(chat);
    assert_eq!((view.running, view.minimum, view.maximum), (3, 3, 3));
    world.restart();
    world.settle();
    assert_eq!(world.service(chat).running, 3);
    let job = world.submit(ONE);
    for (id, replicas, minimum, maximum, code) in [
        (chat, None, None, None, "invalid_scale"),
        (chat, Some(1), Some(1), None, "invalid_scale"),
        (chat, None, Some(4), None, "invalid_job"),
        (chat, Some(0), None, None, "invalid_job"),
        (job, Some(1), None, None, "no_service"),
    ] {
        assert_eq!(world.scale(id, replicas, minimum, maximum).expect_err("it cannot be").code, code);
    }
    assert_eq!(world.service(chat), view, "what is refused changes nothing");
    world.ask(&operator(), Command::Cancel { job: chat, signal: None, now: true }).expect("it can be cancelled");
    assert!(world.scale(chat, Some(5), None, None).is_err());
}

#[test]
fn those_that_leave_count_against_the_maximum() {
    let mut world = World::new(&["a"]);
    let chat = world.submit(&CHAT.replace(r#""replicas": 3"#, r#""minimum": 1, "maximum": 3"#));
    world.demand(chat, 3);
    // No agent is heard of meanwhile.
    world.ask(&operator(), Command::Demand { job: chat, replicas: 1 }).expect("it is a service");
    world.ask(&operator(), Command::Demand { job: chat, replicas: 3 }).expect("it is a service");
    let states: Vec<JobState> = world.replicas(chat).iter().map(|job| job.state).collect();
    assert_eq!(states, [JobState::Stopping, JobState::Stopping, JobState::Running]);
    world.settle();
    assert_eq!((world.service(chat).running, world.replicas(chat).len()), (3, 3));
}

#[test]
fn a_service_follows_the_curve_of_its_day_until_somebody_says_otherwise() {
    const HOUR: i64 = 3_600_000;
    let mut world = World::new(&["a", "b"]);
    let first = (START / HOUR) % 24;
    let curve: Vec<u32> =
        (0..24).map(|hour| if (hour - first).rem_euclid(24) == 1 { 1_000_000 } else { 250_000 }).collect();
    let curve = format!(r#""minimum": 0, "maximum": 8, "demand_ppm": {curve:?}"#);
    let chat = world.submit(&CHAT.replace(r#""replicas": 3"#, &curve));
    world.settle();
    assert_eq!(world.service(chat).running, 2);
    let next = (START / HOUR + 1) * HOUR;
    assert!(world.core.next_timer() <= Some(Timestamp::from_millis(next)), "it wakes by itself");
    // A restart in the same hour leaves what somebody said.
    world.demand(chat, 5);
    world.restart();
    world.settle();
    assert_eq!(world.service(chat).running, 5);
    while world.now < next - 1000 {
        world.now = (world.now + 20_000).min(next - 1000);
        world.settle();
    }
    assert_eq!(world.service(chat).running, 5);
    world.wait(1);
    assert_eq!(world.service(chat).running, 8);
    // One over the full hour does what the clock has done meanwhile.
    world.now += HOUR;
    world.restart();
    world.settle();
    assert_eq!(world.service(chat).replicas, 2);
}

/// Four replicas on two of three nodes, and one of these two.
fn chat_on_two_nodes(service: &str) -> (World, u64, String) {
    let mut world = World::new(&["a", "b", "c"]);
    let chat =
        world.submit(&format!(r#"{{"command": ["serve"], "service": {{{service}}}, "gangs": [{{"chips": 2}}]}}"#));
    world.demand(chat, 4);
    let node = world.view(chat + 1).nodes[0].clone();
    assert_eq!((world.service(chat).running, world.replicas_on(chat, &node)), (4, 2));
    (world, chat, node)
}

impl World {
    fn drain(&mut self, node: &str) {
        let drain = Command::Drain { node: node.to_owned(), reason: "new disks".to_owned() };
        self.ask(&operator(), drain).expect("it can be drained");
    }

    fn replicas_on(&self, service: u64, node: &str) -> usize {
        self.replicas(service).iter().filter(|job| job.nodes == [node]).count()
    }

    /// Lets one agent after the other report, and tells the fewest replicas that served meanwhile.
    fn fewest_while_settling(&mut self, service: u64) -> u32 {
        let nodes: Vec<String> = self.agents.keys().cloned().collect();
        let mut fewest = u32::MAX;
        for node in nodes.iter().cycle().take(60) {
            self.exchange(node);
            fewest = fewest.min(self.service(service).running);
        }
        fewest
    }

    fn summary(&mut self, job: u64) -> String {
        self.core.why(&operator(), job, false).expect("a known job").summary
    }
}

#[test]
fn replicas_leave_a_drained_node_within_their_budget() {
    for (budget, fewest) in [(r#", "disruption_budget": 1"#, 3), (r#", "disruption_budget": 2"#, 2), ("", 2)] {
        let (mut world, chat, node) = chat_on_two_nodes(&format!(r#""minimum": 0, "maximum": 4{budget}"#));
        world.drain(&node);
        let moved = world.replicas(chat).into_iter().find(|job| job.state == JobState::Stopping).expect("one leaves");
        assert_eq!(moved.reason.as_deref(), Some("leaves a drained node"));
        let why = format!(" It leaves {node}, which is drained (new disks): it starts again elsewhere.");
        assert!(world.summary(moved.id).ends_with(&why), "{}", world.summary(moved.id));
        assert_eq!(world.fewest_while_settling(chat), fewest, "{budget}");
        assert_eq!((world.service(chat).running, world.replicas_on(chat, &node)), (4, 0), "{budget}");
        let detail = world.core.job(&operator(), moved.id).expect("a known job");
        assert_eq!((detail.job.state, detail.attempts.len()), (JobState::Running, 2), "it is the same replica");
        assert_eq!(detail.attempts[0].outcome.as_deref(), Some("left a drained node"));
        world.restart();
    }
}

#[test]
fn where_none_may_be_down_another_serves_before_one_leaves() {
    let (mut world, chat, node) = chat_on_two_nodes(r#""minimum": 0, "maximum": 5, "disruption_budget": 0"#);
    world.drain(&node);
    let first = world.replicas(chat).pop().expect("four run").id;
    let why = world.summary(first);
    let goes = format!(
        " It has to leave {node}, which is drained (new disks): it goes once another replica of service {chat}"
    );
    assert!(why.contains(&goes), "{why}");
    world.restart();
    assert_eq!(world.fewest_while_settling(chat), 4);
    assert_eq!((world.service(chat).running, world.replicas_on(chat, &node)), (4, 0));
    assert_eq!(world.replicas(chat).len(), 4, "and no more are left over");
}

#[test]
fn without_room_for_another_nobody_leaves_where_none_may_be_down() {
    let (mut world, chat, node) = chat_on_two_nodes(r#""minimum": 0, "maximum": 4, "disruption_budget": 0"#);
    world.drain(&node);
    assert_eq!(world.fewest_while_settling(chat), 4);
    assert_eq!(world.replicas_on(chat, &node), 2);
    let told = format!(" On drained nodes, and to leave them: {}, {}.", chat + 1, chat + 2);
    assert!(world.summary(chat).ends_with(&told), "{}", world.summary(chat));
    world.ask(&operator(), Command::Resume(node)).expect("it is drained");
    assert_eq!(world.summary(chat), format!("Service {chat} runs 4 of 4 replicas, of at least 0 and at most 4."));
    world.restart();
}

#[test]
fn services_are_listed_with_what_they_wait_for() {
    let mut world = World::new(&["a", "b"]);
    let curve = [500_000; 24];
    let service =
        format!(r#""minimum": 0, "maximum": 12, "demand_ppm": {curve:?}, "spread": "site", "disruption_budget": 0"#);
    let chat = world.submit(&CHAT.replace(r#""replicas": 3"#, &service));
    world.settle();
    let listed = world.core.services(&operator());
    assert_eq!(listed.len(), 1);
    let one = &listed[0];
    assert_eq!((one.id, one.name.as_str(), one.state), (chat, "chat", JobState::Running));
    assert_eq!((one.service.replicas, one.demand, one.has_curve, &one.waits_for), (6, 6, true, &None));
    assert_eq!(one.domains.iter().map(|domain| domain.replicas).sum::<u32>(), 6);
    assert!(world.core.services(&member("ada")).is_empty(), "it is another's");

    world.demand(chat, 12);
    let one = world.core.services(&operator()).remove(0);
    assert_eq!((one.service.running, one.starting, one.waiting, one.stopping), (8, 0, 4, 0));
    assert_eq!(one.waits_for.as_deref(), Some("room"));
    world.drain("a");
    assert_eq!(world.core.services(&operator())[0].on_drained, 4);
    world.demand(chat, 0);
    assert_eq!(world.core.services(&operator())[0].service.running, 0);
    world.ask(&operator(), Command::Cancel { job: chat, signal: None, now: true }).expect("it can be cancelled");
    world.settle();
    assert!(world.core.services(&operator()).is_empty(), "it is over");
}

#[test]
fn a_service_in_its_pause_says_so() {
    let mut world = World::new(&["a"]);
    let chat = world.submit(&CHAT.replace('3', "1"));
    world.settle();
    world.end_worker(chat + 1, &Exit::Status(3));
    let one = world.core.services(&operator()).remove(0);
    assert_eq!((one.service.running, one.waiting), (0, 1));
    let waits = one.waits_for.expect("it waits");
    assert!(waits.starts_with("starts again after a pause"), "{waits}");
}
