//! `offtake top`: the fleet, the queue and what happens, live.

use std::collections::VecDeque;
use std::io::IsTerminal;
use std::sync::mpsc::TryRecvError;
use std::time::Duration;

use clap::Args;
use offtake_protocol::rest::{FleetView, Health, JobQuery, JobState, JobView};
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Paragraph, Wrap};
use ratatui::{DefaultTerminal, Frame};
use tokio::sync::mpsc;

use super::Common;
use super::events;
use crate::connection::Connection;
use crate::show::events::Fact;
use crate::show::{self, figures};
use crate::terminal::{BadInput, printable, shortened};

#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    common: Common,
}

/// What is on the screen.
#[derive(Default)]
struct Screen {
    fleet: Option<FleetView>,
    jobs: Vec<JobView>,
    events: VecDeque<Fact>,
    /// Jobs above the first that is shown.
    above: usize,
    has_colour: bool,
}

/// What changes it.
enum News {
    Key(KeyCode),
    Seen(Box<FleetView>, Vec<JobView>),
    Happened(Fact),
    Failed(anyhow::Error),
    Resized,
}

/// Time between two looks at the server.
const LOOK: Duration = Duration::from_secs(1);
/// Jobs that are looked at.
const JOBS: usize = 500;
/// Events that are kept.
const EVENTS: usize = 100;

pub async fn run(arguments: &Arguments) -> anyhow::Result<()> {
    if arguments.common.json || !std::io::stdout().is_terminal() || !std::io::stdin().is_terminal() {
        let message = "'offtake top' draws on a terminal: use 'offtake jobs', 'nodes' and 'events' elsewhere";
        return Err(BadInput(message.to_owned()).into());
    }
    let connection = arguments.common.open()?;
    // Whatever is wrong with the server is said on an ordinary screen.
    let sequence = connection.get::<Health>("/v1/health").await?.sequence;
    let (tell, mut news) = mpsc::channel(64);
    let (stop, stopped) = std::sync::mpsc::channel();
    let keys = std::thread::spawn({
        let tell = tell.clone();
        move || read_keys(&tell, &stopped)
    });
    let mut terminal = ratatui::try_init()?;
    let result = tokio::select! {
        result = watch(&mut terminal, &mut news) => result,
        error = look(&connection, &tell) => Err(error),
        error = listen(&connection, sequence.saturating_sub(EVENTS as u64), &tell) => Err(error),
    };
    ratatui::try_restore()?;
    // Both let the thread go, wherever it waits.
    drop((stop, news));
    // A thread that has panicked has said so itself.
    let _ = keys.join();
    result
}

/// Draws what is told, until somebody has seen enough.
async fn watch(terminal: &mut DefaultTerminal, news: &mut mpsc::Receiver<News>) -> anyhow::Result<()> {
    let has_colour = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let mut screen = Screen { has_colour, ..Screen::default() };
    loop {
        let now_ms = figures::now_ms();
        terminal.draw(|frame| screen.draw(frame, now_ms))?;
        match news.recv().await {
            None | Some(News::Key(KeyCode::Char('q') | KeyCode::Esc)) => return Ok(()),
            Some(News::Failed(error)) => return Err(error),
            Some(news) => screen.take(news),
        }
    }
}

/// Looks at the fleet and its jobs again and again, until that fails.
async fn look(connection: &Connection, tell: &mpsc::Sender<News>) -> anyhow::Error {
    loop {
        let seen = async {
            let fleet: FleetView = connection.get("/v1/fleet").await?;
            anyhow::Ok((fleet, connection.jobs(JobQuery::default(), JOBS).await?))
        };
        match seen.await {
            Err(error) => return error,
            // Nobody listens only when the screen is gone.
            Ok((fleet, jobs)) => drop(tell.send(News::Seen(Box::new(fleet), jobs)).await),
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Listens to what happens, until that fails.
async fn listen(connection: &Connection, after: u64, tell: &mpsc::Sender<News>) -> anyhow::Error {
    let mut take = |event: &Fact| {
        // Where the screen cannot keep up, later events tell more.
        let _ = tell.try_send(News::Happened(event.clone()));
        Ok(())
    };
    match events::follow(connection, after, None, &mut take).await {
        Err(error) => error,
        Ok(()) => anyhow::anyhow!("the server tells no more of what happens"),
    }
}

/// Reads the keyboard until the screen is gone.
fn read_keys(tell: &mpsc::Sender<News>, stopped: &std::sync::mpsc::Receiver<()>) {
    const TURN: Duration = Duration::from_millis(100);
    while stopped.try_recv() == Err(TryRecvError::Empty) {
        let news = match event::poll(TURN).and_then(|ready| if ready { event::read().map(Some) } else { Ok(None) }) {
            Ok(None) => continue,
            Ok(Some(Event::Key(key))) if key.kind == KeyEventKind::Release => continue,
            Ok(Some(Event::Key(key))) if key.modifiers == KeyModifiers::CONTROL && key.code == KeyCode::Char('c') => {
                News::Key(KeyCode::Esc)
            }
            Ok(Some(Event::Key(key))) => News::Key(key.code),
            Ok(Some(_)) => News::Resized,
            Err(error) => News::Failed(error.into()),
        };
        if tell.blocking_send(news).is_err() {
            return;
        }
    }
}

impl Screen {
    fn take(&mut self, news: News) {
        match news {
            News::Seen(fleet, mut jobs) => {
                jobs.sort_by_key(|job| (order(job.state), job.id));
                self.fleet = Some(*fleet);
                self.jobs = jobs;
            }
            News::Happened(event) => {
                self.events.push_back(event);
                if self.events.len() > EVENTS {
                    self.events.pop_front();
                }
            }
            News::Key(KeyCode::Down | KeyCode::Char('j')) => self.above += 1,
            News::Key(KeyCode::Up | KeyCode::Char('k')) => self.above = self.above.saturating_sub(1),
            News::Key(KeyCode::PageDown) => self.above += 10,
            News::Key(KeyCode::PageUp) => self.above = self.above.saturating_sub(10),
            News::Key(_) | News::Failed(_) | News::Resized => {}
        }
        self.above = self.above.min(self.jobs.len().saturating_sub(1));
    }

    fn draw(&self, frame: &mut Frame<'_>, now_ms: i64) {
        let Some(fleet) = &self.fleet else {
            return frame.render_widget(Paragraph::new("Looking at the fleet."), frame.area());
        };
        let width = usize::from(frame.area().width);
        let bars = self.bars(fleet, width, usize::from(frame.area().height) / 3);
        let [head, fleet_area, jobs_area, events_area, foot] = Layout::vertical([
            Constraint::Length(3),
            Constraint::Length(u16::try_from(bars.len() + 1).unwrap_or(u16::MAX)),
            Constraint::Min(4),
            Constraint::Length(7),
            Constraint::Length(1),
        ])
        .areas(frame.area());
        frame.render_widget(Paragraph::new(sentence(fleet)).wrap(Wrap { trim: true }), head);
        frame.render_widget(Paragraph::new(bars), fleet_area);
        frame.render_widget(Paragraph::new(self.job_lines(jobs_area, now_ms)), jobs_area);
        frame.render_widget(Paragraph::new(self.event_lines(events_area)), events_area);
        frame.render_widget(Paragraph::new(self.muted("q quits, arrows scroll".to_owned())), foot);
    }

    /// The fleet by tier, then its domains and caps as far as there is room.
    fn bars(&self, fleet: &FleetView, width: usize, room: usize) -> Vec<Line<'static>> {
        const NAME: usize = 22;
        const FIGURES: usize = 22;
        let bar = width.saturating_sub(NAME + FIGURES).max(10);
        let line = |name: &str, cells: Vec<Span<'static>>, figures: String| {
            let mut spans = vec![Span::raw(format!("{:<NAME$}", shortened(&printable(name), NAME - 2)))];
            spans.extend(cells);
            spans.push(Span::raw(format!("  {figures}")));
            Line::from(spans)
        };
        let has_chips = fleet.chips > 0;
        let mut lines = Vec::new();
        if has_chips {
            let figures = format!(
                "{} of {} chips",
                figures::milli(fleet.chip_milli_in_use.iter().sum()),
                crate::terminal::grouped(fleet.chips)
            );
            lines.push(line("by tier", self.tiers(fleet, bar), figures));
        } else {
            let figures =
                format!("{} of {} cores", figures::milli(fleet.cpu_milli_in_use), figures::milli(fleet.cpu_milli));
            lines.push(line(
                "cores",
                vec![self.accented(figures::filled(fleet.cpu_milli_in_use, fleet.cpu_milli, bar))],
                figures,
            ));
        }
        if has_chips {
            for domain in &fleet.domains {
                let cells = figures::filled(domain.chip_milli_in_use, domain.chips * 1000, bar);
                let figures = format!(
                    "{} of {} chips",
                    figures::milli(domain.chip_milli_in_use),
                    crate::terminal::grouped(domain.chips)
                );
                lines.push(line(&domain.path, vec![self.accented(cells)], figures));
            }
        }
        let rest = fleet.caps.len().min(room / 2);
        lines.truncate(room.saturating_sub(rest).max(1));
        for cap in fleet.caps.iter().take(room) {
            let figures = format!("{} of {}", figures::power(cap.used_w), figures::power(cap.watts));
            lines.push(line(
                &format!("cap {}", cap.name),
                vec![self.accented(figures::filled(cap.used_w, cap.watts, bar))],
                figures,
            ));
        }
        lines.truncate(room.max(1));
        if has_chips {
            lines.push(self.muted("█ reserved  ▓ guaranteed  ▒ standard  ░ spot  · idle".to_owned()));
        }
        lines
    }

    fn tiers(&self, fleet: &FleetView, bar: usize) -> Vec<Span<'static>> {
        const SHADES: [&str; 4] = ["█", "▓", "▒", "░"];
        let total = fleet.chips * 1000;
        let mut text = String::new();
        let (mut used, mut drawn) = (0, 0);
        for (milli, shade) in fleet.chip_milli_in_use.iter().zip(SHADES) {
            used += milli;
            let until = figures::cells(used, total, bar);
            text.push_str(&shade.repeat(until - drawn));
            drawn = until;
        }
        text.push_str(&"·".repeat(bar - drawn));
        vec![self.accented(text)]
    }

    fn job_lines(&self, area: Rect, now_ms: i64) -> Vec<Line<'static>> {
        if self.jobs.is_empty() {
            return vec![Line::raw("No job waits or runs: 'offtake run -- PROGRAM' starts one.")];
        }
        let text = show::jobs::jobs(&self.jobs, now_ms, Some(usize::from(area.width)));
        let mut lines = text.lines().map(str::to_owned);
        let mut shown = vec![self.muted(lines.next().unwrap_or_default())];
        shown.extend(lines.skip(self.above).take(usize::from(area.height).saturating_sub(2)).map(Line::raw));
        shown
    }

    fn event_lines(&self, area: Rect) -> Vec<Line<'static>> {
        let room = usize::from(area.height).saturating_sub(1);
        let newest = self.events.iter().skip(self.events.len().saturating_sub(room));
        newest.map(|event| Line::raw(shortened(&show::events::short(event), usize::from(area.width)))).collect()
    }

    fn accented(&self, text: String) -> Span<'static> {
        let style = if self.has_colour { Style::new().fg(Color::Cyan) } else { Style::new() };
        Span::styled(text, style)
    }

    fn muted(&self, text: String) -> Line<'static> {
        Line::styled(text, Style::new().add_modifier(Modifier::DIM))
    }
}

/// The answer to what a shift lead asks first.
fn sentence(fleet: &FleetView) -> String {
    let jobs = |state: JobState| fleet.jobs.get(state.word()).copied().unwrap_or_default();
    let waiting = jobs(JobState::Pending) + jobs(JobState::Held);
    format!(
        "{}: {} of {} ready, {} drawn; {} running, {} waiting; policy {}.",
        printable(&fleet.name),
        crate::terminal::grouped(fleet.nodes_ready),
        figures::count(fleet.nodes, "node"),
        figures::power(fleet.power_w),
        figures::count(jobs(JobState::Running), "job"),
        crate::terminal::grouped(waiting),
        fleet.policy,
    )
}

/// Jobs that have nodes stand before those that wait.
const fn order(state: JobState) -> u8 {
    match state {
        JobState::Stopping => 0,
        JobState::Running => 1,
        JobState::Starting => 2,
        JobState::Pending => 3,
        JobState::Held => 4,
        JobState::Finished | JobState::Failed | JobState::Cancelled => 5,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use offtake_protocol::rest::{CapView, DomainView};
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;
    use crate::show::samples;

    fn fleet() -> FleetView {
        let domain = |path: &str, nodes, chip_milli_in_use| DomainView {
            path: path.to_owned(),
            level: "block".to_owned(),
            nodes,
            nodes_ready: nodes,
            chips: nodes * 8,
            chip_milli_in_use,
            power_w: 0,
        };
        FleetView {
            name: "pair".to_owned(),
            policy: "offtake".to_owned(),
            levels: vec!["site".to_owned(), "block".to_owned()],
            nodes: 16,
            nodes_ready: 15,
            chips: 128,
            chip_milli_in_use: [16_000, 8_000, 40_000, 500],
            cpu_milli: 64_000,
            cpu_milli_in_use: 12_000,
            power_w: 84_300,
            facility_w: 99_000,
            jobs: BTreeMap::from([("running".to_owned(), 3), ("pending".to_owned(), 1), ("held".to_owned(), 1)]),
            domains: vec![
                domain("hall", 16, 64_500),
                domain("hall/block-1", 8, 64_000),
                domain("hall/block-2", 8, 500),
            ],
            caps: vec![CapView { name: "grid".to_owned(), watts: 100_000, declared_w: None, used_w: 84_300 }],
            metered: vec![],
            circuits: vec![],
        }
    }

    fn drawn(screen: &Screen, width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a test's terminal is there");
        terminal.draw(|frame| screen.draw(frame, samples::NOW)).expect("a test's terminal takes all");
        let buffer = terminal.backend().buffer().clone();
        let line = |row: u16| (0..width).map(|column| buffer[(column, row)].symbol()).collect::<String>();
        (0..height).map(|row| format!("{}\n", line(row).trim_end())).collect()
    }

    fn event(sequence: u64) -> Fact {
        let record =
            serde_json::json!({ "at": samples::NOW, "event": { "engine": { "job_started": { "job": sequence } } } });
        Fact { sequence, record }
    }

    #[test]
    fn a_screen_of_80_by_24() {
        let mut screen = Screen::default();
        screen.take(News::Seen(Box::new(fleet()), samples::jobs()));
        (1..=200).for_each(|sequence| screen.take(News::Happened(event(sequence))));
        insta::assert_snapshot!(drawn(&screen, 80, 24));
    }

    #[test]
    fn a_fleet_without_chips_and_without_work() {
        let mut screen = Screen::default();
        let bare = FleetView { chips: 0, chip_milli_in_use: [0; 4], caps: vec![], jobs: BTreeMap::new(), ..fleet() };
        screen.take(News::Seen(Box::new(bare), vec![]));
        insta::assert_snapshot!(drawn(&screen, 80, 16));
    }

    #[test]
    fn no_size_of_screen_and_no_key_breaks_it() {
        let mut screen = Screen::default();
        drawn(&screen, 1, 1);
        screen.take(News::Seen(Box::new(fleet()), samples::jobs()));
        for key in
            [KeyCode::Down, KeyCode::PageDown, KeyCode::PageDown, KeyCode::Up, KeyCode::PageUp, KeyCode::PageDown]
        {
            screen.take(News::Key(key));
            for (width, height) in [(1, 1), (10, 5), (40, 8), (300, 100)] {
                drawn(&screen, width, height);
            }
        }
        assert_eq!(screen.above, 7, "the last job stays in sight");
    }
}
