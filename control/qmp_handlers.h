// The functions behind the table of qmp_command.h.
#pragma once

#include "control/qmp_command.h"

namespace wick::control::qmp {

// Functions in qmp_machine.cc.
Answer query_version(Context&, const Json&);
Answer query_commands(Context&, const Json&);
Answer query_schema(Context&, const Json&);
Answer query_status(Context&, const Json&);
Answer query_name(Context&, const Json&);
Answer query_uuid(Context&, const Json&);
Answer query_kvm(Context&, const Json&);
Answer query_machines(Context&, const Json&);
Answer query_current_machine(Context&, const Json&);
Answer query_target(Context&, const Json&);
Answer query_cpus_fast(Context&, const Json&);
Answer query_memory_size_summary(Context&, const Json&);
Answer query_balloon(Context&, const Json&);
Answer empty_list(Context&, const Json&);
void stop(Context&, const Json&, Done);
Answer cont(Context&, const Json&);
void quit(Context&, const Json&, Done);
Answer system_reset(Context&, const Json&);
Answer system_powerdown(Context&, const Json&);
Answer system_wakeup(Context&, const Json&);
Answer inject_nmi(Context&, const Json&);
Answer balloon(Context&, const Json&);
Answer screendump(Context& context, const Json& arguments);
void human_monitor_command(Context&, const Json&, Done);

// Functions in qmp_dump.cc.
void dump_guest_memory(Context&, const Json&, Done);
Answer query_dump(Context&, const Json&);
Answer query_dump_capability(Context&, const Json&);
Json to_json(const DumpState& state);

// Functions in qmp_block.cc.
Answer query_block(Context&, const Json&);
Answer query_blockstats(Context&, const Json&);
Answer query_named_block_nodes(Context&, const Json&);

// Functions in qmp_media.cc.
Answer block_resize(Context&, const Json&);
Answer blockdev_snapshot_sync(Context&, const Json&);
Answer eject(Context&, const Json&);
Answer change_medium(Context&, const Json&);

// Functions in qmp_devices.cc.
Answer query_chardev(Context&, const Json&);
Answer query_pci(Context&, const Json&);
Answer query_rx_filter(Context&, const Json&);
Answer set_link(Context&, const Json&);
Answer send_break(Context&, const Json&);
Answer send_key(Context&, const Json&);

// Functions in qmp_hotplug.cc.
Answer blockdev_add(Context&, const Json&);
Answer blockdev_del(Context&, const Json&);
Answer netdev_add(Context&, const Json&);
Answer netdev_del(Context&, const Json&);
Answer device_add(Context&, const Json&);
Answer device_del(Context&, const Json&);

}  // namespace wick::control::qmp
