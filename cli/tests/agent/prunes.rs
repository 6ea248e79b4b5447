//! Members that are pruned in bulk.

use crate::process::{Agent, THANE, poll};

#[test]
fn force_leave_with_a_filter_prunes_all_failed_members_that_match() {
    let mut watcher = Agent::start(THANE, "127.32.14.1", &["-node=watcher", "-profile=local"]);
    let _stays = Agent::start(THANE, "127.32.14.2", &["-node=web-9", "-join=127.32.14.1", "-profile=local"]);
    for (n, name) in ["web-1", "web-2", "web-3", "db-1"].into_iter().enumerate() {
        let (addr, name_flag) = (format!("127.32.14.{}", 10 + n), format!("-node={name}"));
        let flags = [&name_flag, "-join=127.32.14.1", "-profile=local"];
        let mut killed = Agent::start(THANE, &addr, &flags);
        watcher.wait_for(&format!("EventMemberJoin: {name} "));
        killed.signal("KILL");
        killed.end();
        watcher.wait_for(&format!("EventMemberFailed: {name} "));
    }
    watcher.wait_for("EventMemberJoin: web-9 ");
    let said = watcher.rpc(THANE, "force-leave", &["-prune", "-name=web-.*"]);
    assert_eq!(said, "Pruned: 3 of 3 members\n");
    let names = || {
        let listed = watcher.rpc(THANE, "members", &[]);
        let names = listed.lines().filter_map(|line| line.split(' ').next());
        names.map(str::to_owned).collect::<Vec<_>>()
    };
    poll("the end of the pruned members", || (names() == ["db-1", "watcher", "web-9"]).then_some(()));
    assert_eq!(watcher.rpc(THANE, "force-leave", &["-name=.*"]), "Forced to leave: 1 of 1 members\n");
    assert_eq!(watcher.rpc(THANE, "force-leave", &["-name=.*"]), "Forced to leave: 0 of 0 members\n");
}
