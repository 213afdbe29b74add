//! x
#![allow(missing_docs, clippy::all, reason = "x")]
use offtake_agent::supervisor::*;
use std::path::Path;
use std::time::Instant;
fn main() {
    let a: Vec<String> = std::env::args().collect();
    if a[1] == "supervise" {
        std::process::exit(if supervise(Path::new(&a[2])) == std::process::ExitCode::SUCCESS { 0 } else { 1 });
    }
    let n: usize = a[1].parse().unwrap();
    let par: usize = a[2].parse().unwrap();
    let rt = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    rt.block_on(async move {
        let base = std::path::PathBuf::from(&a[3]).join(format!("m{}", std::process::id()));
        let t = Instant::now();
        let mut js = vec![];
        for p in 0..par {
            let base = base.clone();
            js.push(tokio::spawn(async move {
                let mut s = [0u128; 4];
                for i in 0..n {
                    let dir = base.join(format!("{p}-{i}"));
                    std::fs::create_dir_all(&dir).unwrap();
                    let w = serde_json::from_str::<WorkerLaunch>(&format!(r#"{{"arguments":["true"],"environment":{{"PATH":"/bin"}},"directory":"/","append":false,"umask":18,"logs":{{"file_bytes":1000000,"files":2}},"stop":{{"grace_ms":10}},"lease_until_ms":{}}}"#, boot_now_ms()+100000)).unwrap();
                    let t0 = Instant::now();
                    let mut h = launch(&dir, &w, &std::env::current_exe().unwrap()).unwrap();
                    s[0] += t0.elapsed().as_micros();
                    h.next().await.unwrap();
                    s[1] += t0.elapsed().as_micros();
                    h.send(&Command::Go).await.unwrap();
                    h.next().await.unwrap();
                    s[2] += t0.elapsed().as_micros();
                    while let Some(x) = h.next().await.unwrap() { if let Status::Ended(_) = x {break} }
                    s[3] += t0.elapsed().as_micros();
                }
                s
            }));
        }
        let mut tot = [0u128;4];
        for j in js { let s = j.await.unwrap(); for k in 0..4 { tot[k]+=s[k]; } }
        let el = t.elapsed().as_secs_f64();
        let c = (n*par) as u128;
        println!("launch {} prepared {} running {} ended {} us; {:.0}/s", tot[0]/c, tot[1]/c, tot[2]/c, tot[3]/c, c as f64/el);
        let _ = std::fs::remove_dir_all(&base);
    });
}
