//! The real traces in `data/`: counts and sums as their sources state them.

use std::path::{Path, PathBuf};

use offtake_units::{Duration, Ppm, Timestamp};
use offtake_workload::resample::{Resampling, resample};
use offtake_workload::{ChipRequest, Tier, TraceFormat, Workload, read, read_from};

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data").join(name)
}

fn openb() -> Workload {
    read(&data("openb/openb_pod_list_default.csv.gz"), None).expect("the trace is there and good")
}

fn philly() -> Workload {
    read(&data("philly/philly_jobs.csv.gz"), None).expect("the trace is there and good")
}

fn chip_hours(workload: &Workload) -> u128 {
    let chip_time = |job: &offtake_workload::Job| {
        u128::from(job.chip_milli()) * job.duration.map_or(0, Duration::as_millis) as u128
    };
    workload.jobs.iter().map(chip_time).sum::<u128>() / 1000 / 3_600_000
}

#[test]
fn openb_is_what_its_source_says() {
    let workload = openb();
    assert_eq!(workload.jobs.len(), 8152);
    assert_eq!(workload.jobs.iter().filter(|job| job.chip_milli() > 0).count(), 7064);
    assert_eq!((workload.jobs.iter().map(|job| job.chip_milli()).sum::<u64>() + 500) / 1000, 6087);
    assert!(workload.jobs.iter().all(|job| job.duration.is_some()));
    let spot = workload.jobs.iter().filter(|job| job.tier == Tier::Spot);
    assert_eq!(spot.filter(|job| job.preemptible).count(), 3398);
    let first = &workload.jobs[0];
    assert_eq!((first.name.as_str(), first.duration), ("openb-pod-0000", Some(Duration::from_secs(12_537_496))));
    assert!(workload.jobs.iter().any(|job| job.gangs[0].chips == ChipRequest::Whole(8)));
}

#[test]
fn openb_variants_without_times_have_no_end() {
    let text = "name,cpu_milli,memory_mib,num_gpu,gpu_milli\na,16200,66560,2,1000\nb,1,1,1,460\n";
    let workload = read_from(text.as_bytes(), Path::new("w"), None).expect("five columns will do");
    let seen: Vec<_> = workload.jobs.iter().map(|job| (job.name.as_str(), job.submitted, job.duration)).collect();
    assert_eq!(seen, [("a", Timestamp::EPOCH, None), ("b", Timestamp::EPOCH, None)]);
}

#[test]
fn openb_kinds_are_those_that_are_allowed() {
    let text = "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec\na,1,1,1,1000,V100M16|V100M32\n";
    let workload = read_from(text.as_bytes(), Path::new("w"), None).expect("six columns will do");
    assert_eq!(workload.jobs[0].gangs[0].accelerators, ["V100M16", "V100M32"]);
}

#[test]
fn philly_is_what_its_source_says() {
    let workload = philly();
    assert_eq!(workload.jobs.len(), 82_247);
    assert_eq!(chip_hours(&workload), 978_078);
    let first = &workload.jobs[0];
    assert_eq!((first.name.as_str(), first.tenant.as_str()), ("philly-000001", "7f04ca"));
    assert_eq!(first.submitted, Timestamp::from_secs(1_504_521_041));
    let split: Vec<_> = workload.jobs.iter().filter(|job| job.gangs.len() > 1).collect();
    assert_eq!(split.len(), 7, "those of 12 chips");
    assert_eq!(split[0].gangs.iter().map(|gang| gang.chips.milli()).collect::<Vec<_>>(), [8000, 4000]);
    let wide = workload.jobs.iter().map(|job| job.gangs[0].workers).max();
    assert_eq!(wide, Some(16), "128 chips");
}

#[test]
fn a_trace_at_another_load() {
    let how = Resampling {
        offered_load: Ppm::new(1_100_000),
        capacity_chip_milli: 6_212_000,
        start: Timestamp::EPOCH,
        horizon: Duration::from_secs(14 * 86_400),
        seed: 1,
    };
    for source in [openb(), philly()] {
        let drawn = resample(&source, &how).expect("there is demand");
        // A few long jobs carry much of either demand, so that one draw may lie a few percent off.
        assert!((1_000_000..1_200_000).contains(&drawn.realised_load.parts()), "{:?}", drawn.realised_load);
        assert!(drawn.running_at_start > 0);
    }
}

/// Prints what the guide states: run with `--release -- --nocapture prints_measures`.
#[test]
fn prints_measures() {
    for (name, path) in [("openb", "openb/openb_pod_list_default.csv.gz"), ("philly", "philly/philly_jobs.csv.gz")] {
        let start = std::time::Instant::now();
        let workload = read(&data(path), Some(name.parse::<TraceFormat>().expect("a format"))).expect("read");
        let took = start.elapsed();
        let jobs = workload.jobs.len() as f64;
        let hours: f64 =
            workload.jobs.iter().map(|job| job.duration.map_or(0.0, |run| run.as_secs_f64() / 3600.0)).sum();
        let mean_chip_hours = chip_hours(&workload) as f64 / jobs;
        println!("{name}: {took:?}, {mean_chip_hours:.2} chip-hours and {:.2} hours a job", hours / jobs);
        for seed in 1..=5 {
            let how = Resampling {
                offered_load: Ppm::new(1_100_000),
                capacity_chip_milli: 6_212_000,
                start: Timestamp::EPOCH,
                horizon: Duration::from_secs(14 * 86_400),
                seed,
            };
            let start = std::time::Instant::now();
            let drawn = resample(&workload, &how).expect("there is demand");
            println!(
                "  seed {seed}: {:?}, load {:.4}, {} at the start, {} arrive ({:.1} a day), gap {}",
                start.elapsed(),
                drawn.realised_load.as_f64(),
                drawn.running_at_start,
                drawn.arrivals,
                86_400.0 / drawn.mean_gap.as_secs_f64(),
                drawn.mean_gap
            );
        }
    }
}
