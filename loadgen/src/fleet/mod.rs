//! `thane-loadgen fleet`: complete nodes over pinned shards on real sockets.

mod measure;
mod options;
mod record;

pub(crate) use self::options::Options;
use crate::arguments::Failure;
use crate::report::table;
use crate::stop::Stop;

/// Runs the fleet, prints its measures and writes its report. After an error or a signal both hold the measures up to
/// then.
pub(crate) fn run(options: &Options) -> Result<(), Failure> {
    let addresses = options.addresses().map_err(Failure::Usage)?;
    let stop = Stop::on_signal();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    let (report, result) = runtime.block_on(measure::measure(options, addresses, &stop))?;
    print!("{}\n{}", report.title, table(std::slice::from_ref(&report)));
    if let Some(dir) = &options.out {
        let paths = report.write(dir, &format!("fleet-{}", options.nodes()))?;
        println!("\nwritten: {} and {}", paths[0].display(), paths[1].display());
    }
    Ok(result?)
}
