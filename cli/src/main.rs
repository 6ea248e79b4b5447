//! The `thane` binary. The agent's parts that need no driver are here and tested; commands come with it.

#[expect(dead_code, reason = "the agent that uses these parts comes with the io drivers")]
mod agent;

fn main() {
    eprintln!("thane has no commands yet: the engine is being built, see README.md");
    std::process::exit(1);
}
