// The types of QMP that wick's commands and events use, by their names in the QEMU QMP Reference
// Manual (QEMU 7.2). They include values that wick never sends, so that a client sees the same
// type.
#include "control/qmp_types.h"

namespace wick::control {

namespace {

constexpr TypeDefinition kDefinitions[] = {
    // Machine
    {"QMPCapability", "enum oob"},
    {"VersionTriple", "struct major:int minor:int micro:int"},
    {"VersionInfo", "struct qemu:VersionTriple package:str"},
    {"CommandInfo", "struct name:str"},
    {"RunState",
     "enum debug inmigrate internal-error io-error paused postmigrate prelaunch finish-migrate "
     "restore-vm running save-vm shutdown suspended watchdog guest-panicked colo"},
    {"StatusInfo", "struct running:bool singlestep:bool status:RunState"},
    {"NameInfo", "struct name?:str"},
    {"UuidInfo", "struct UUID:str"},
    {"KvmInfo", "struct enabled:bool present:bool"},
    {"MachineInfo",
     "struct name:str alias?:str is-default?:bool cpu-max:int hotpluggable-cpus:bool "
     "numa-mem-supported:bool deprecated:bool default-cpu-type?:str default-ram-id?:str"},
    {"CurrentMachineParams", "struct wakeup-suspend-support:bool"},
    {"SysEmuTarget", "enum x86_64"},
    {"TargetInfo", "struct arch:SysEmuTarget"},
    {"CpuInstanceProperties",
     "struct node-id?:int socket-id?:int die-id?:int cluster-id?:int core-id?:int thread-id?:int"},
    {"CpuInfoFast",
     "struct cpu-index:int qom-path:str thread-id:int props?:CpuInstanceProperties "
     "target:SysEmuTarget"},
    {"IOThreadInfo",
     "struct id:str thread-id:int poll-max-ns:int poll-grow:int poll-shrink:int "
     "aio-max-batch:int"},
    {"BalloonInfo", "struct actual:int"},
    {"MemoryInfo", "struct base-memory:int plugged-memory?:int"},
    {"ChardevInfo", "struct label:str filename:str frontend-open:bool"},

    // Introspection
    {"SchemaMetaType", "enum builtin enum array object alternate command event"},
    {"JSONType", "enum string number int boolean null object array value"},
    {"SchemaInfoEnumMember", "struct name:str features?:[str]"},
    {"SchemaInfoObjectMember", "struct name:str type:str default?:any features?:[str]"},
    {"SchemaInfoObjectVariant", "struct case:str type:str"},
    {"SchemaInfoAlternateMember", "struct type:str"},
    {"SchemaInfoBuiltin", "struct json-type:JSONType"},
    {"SchemaInfoEnum", "struct members:[SchemaInfoEnumMember] values:[str]"},
    {"SchemaInfoArray", "struct element-type:str"},
    {"SchemaInfoObject",
     "struct members:[SchemaInfoObjectMember] tag?:str variants?:[SchemaInfoObjectVariant]"},
    {"SchemaInfoAlternate", "struct members:[SchemaInfoAlternateMember]"},
    {"SchemaInfoCommand", "struct arg-type:str ret-type:str allow-oob?:bool"},
    {"SchemaInfoEvent", "struct arg-type:str"},
    {"SchemaInfo",
     "union meta-type name:str meta-type:SchemaMetaType features?:[str] | "
     "builtin=SchemaInfoBuiltin enum=SchemaInfoEnum array=SchemaInfoArray "
     "object=SchemaInfoObject alternate=SchemaInfoAlternate command=SchemaInfoCommand "
     "event=SchemaInfoEvent"},

    // Disks
    {"BlockdevDetectZeroesOptions", "enum off on unmap"},
    {"BlockDeviceIoStatus", "enum ok failed nospace"},
    {"BlockdevCacheInfo", "struct writeback:bool direct:bool no-flush:bool"},
    {"SnapshotInfo",
     "struct id:str name:str vm-state-size:int date-sec:int date-nsec:int vm-clock-sec:int "
     "vm-clock-nsec:int icount?:int"},
    {"Qcow2CompressionType", "enum zlib zstd"},
    {"ImageInfoSpecificQCow2",
     "struct compat:str data-file?:str data-file-raw?:bool extended-l2?:bool "
     "lazy-refcounts?:bool corrupt?:bool refcount-bits:int "
     "compression-type:Qcow2CompressionType"},
    {"ImageInfoSpecificQCow2Wrapper", "struct data:ImageInfoSpecificQCow2"},
    {"ImageInfoSpecificKind", "enum qcow2"},
    {"ImageInfoSpecific",
     "union type type:ImageInfoSpecificKind | qcow2=ImageInfoSpecificQCow2Wrapper"},
    {"ImageInfo",
     "struct filename:str format:str dirty-flag?:bool actual-size?:int virtual-size:int "
     "cluster-size?:int encrypted?:bool compressed?:bool backing-filename?:str "
     "full-backing-filename?:str backing-filename-format?:str snapshots?:[SnapshotInfo] "
     "backing-image?:ImageInfo format-specific?:ImageInfoSpecific"},
    {"BlockDeviceInfo",
     "struct file:str node-name?:str ro:bool drv:str backing_file?:str backing_file_depth:int "
     "encrypted:bool detect_zeroes:BlockdevDetectZeroesOptions bps:int bps_rd:int bps_wr:int "
     "iops:int iops_rd:int iops_wr:int image:ImageInfo cache:BlockdevCacheInfo "
     "write_threshold:int"},
    {"BlockInfo",
     "struct device:str qdev?:str type:str removable:bool locked:bool inserted?:BlockDeviceInfo "
     "tray_open?:bool io-status?:BlockDeviceIoStatus"},
    {"BlockDeviceTimedStats", "struct interval_length:int"},
    {"BlockDeviceStats",
     "struct rd_bytes:int wr_bytes:int unmap_bytes:int rd_operations:int wr_operations:int "
     "flush_operations:int unmap_operations:int rd_total_time_ns:int wr_total_time_ns:int "
     "flush_total_time_ns:int unmap_total_time_ns:int wr_highest_offset:int rd_merged:int "
     "wr_merged:int unmap_merged:int idle_time_ns?:int failed_rd_operations:int "
     "failed_wr_operations:int failed_flush_operations:int failed_unmap_operations:int "
     "invalid_rd_operations:int invalid_wr_operations:int invalid_flush_operations:int "
     "invalid_unmap_operations:int account_invalid:bool account_failed:bool "
     "timed_stats:[BlockDeviceTimedStats]"},
    {"BlockdevDriver", "enum file host_device qcow2 raw"},
    {"BlockStatsSpecificFile",
     "struct discard-nb-ok:int discard-nb-failed:int discard-bytes-ok:int"},
    {"BlockStatsSpecific",
     "union driver driver:BlockdevDriver | file=BlockStatsSpecificFile "
     "host_device=BlockStatsSpecificFile"},
    {"BlockStats",
     "struct device?:str qdev?:str node-name?:str stats:BlockDeviceStats "
     "driver-specific?:BlockStatsSpecific parent?:BlockStats backing?:BlockStats"},
    {"NewImageMode", "enum existing absolute-paths"},
    {"BlockdevChangeReadOnlyMode", "enum retain read-only read-write"},
    {"BlockdevCacheOptions", "struct direct?:bool no-flush?:bool"},
    {"JobType",
     "enum commit stream mirror backup create amend snapshot-load snapshot-save snapshot-delete"},
    {"JobStatus",
     "enum undefined created running paused ready standby waiting pending aborting concluded "
     "null"},
    {"JobInfo",
     "struct id:str type:JobType status:JobStatus current-progress:int total-progress:int "
     "error?:str"},
    {"BlockJobInfo",
     "struct type:str device:str len:int offset:int busy:bool paused:bool speed:int "
     "io-status:BlockDeviceIoStatus ready:bool status:JobStatus auto-finalize:bool "
     "auto-dismiss:bool error?:str"},

    // PCI and cards
    {"PciDeviceClass", "struct desc?:str class:int"},
    {"PciDeviceId", "struct device:int vendor:int subsystem?:int subsystem-vendor?:int"},
    {"PciMemoryRegion",
     "struct bar:int type:str address:int size:int prefetch?:bool mem_type_64?:bool"},
    {"PciMemoryRange", "struct base:int limit:int"},
    {"PciBusInfo",
     "struct number:int secondary:int subordinate:int io_range:PciMemoryRange "
     "memory_range:PciMemoryRange prefetchable_range:PciMemoryRange"},
    {"PciBridgeInfo", "struct bus:PciBusInfo devices?:[PciDeviceInfo]"},
    {"PciDeviceInfo",
     "struct bus:int slot:int function:int class_info:PciDeviceClass id:PciDeviceId irq?:int "
     "irq_pin:int qdev_id:str pci_bridge?:PciBridgeInfo regions:[PciMemoryRegion]"},
    {"PciInfo", "struct bus:int devices:[PciDeviceInfo]"},
    {"RxState", "enum normal none all"},
    {"RxFilterInfo",
     "struct name:str promiscuous:bool multicast:RxState unicast:RxState vlan:RxState "
     "broadcast-allowed:bool multicast-overflow:bool unicast-overflow:bool main-mac:str "
     "vlan-table:[int] unicast-table:[str] multicast-table:[str]"},
    {"NetClientDriver", "enum none nic user tap bridge"},

    // Dumps
    {"DumpGuestMemoryFormat", "enum elf kdump-zlib kdump-lzo kdump-snappy win-dmp"},
    {"DumpGuestMemoryCapability", "struct formats:[DumpGuestMemoryFormat]"},
    {"DumpStatus", "enum none active completed failed"},
    {"DumpQueryResult", "struct status:DumpStatus completed:int total:int"},
    {"ImageFormat", "enum ppm png"},

    // Keys
    {"QKeyCode",
     "enum unmapped shift shift_r alt alt_r ctrl ctrl_r menu esc 1 2 3 4 5 6 7 8 9 0 "
     "minus equal backspace tab q w e r t y u i o p bracket_left bracket_right ret a s "
     "d f g h j k l semicolon apostrophe grave_accent backslash z x c v b n m comma "
     "dot slash asterisk spc caps_lock f1 f2 f3 f4 f5 f6 f7 f8 f9 f10 num_lock "
     "scroll_lock kp_divide kp_multiply kp_subtract kp_add kp_enter kp_decimal sysrq "
     "kp_0 kp_1 kp_2 kp_3 kp_4 kp_5 kp_6 kp_7 kp_8 kp_9 less f11 f12 print home pgup "
     "pgdn end left up down right insert delete stop again props undo front copy open "
     "paste find cut lf help meta_l meta_r compose pause ro hiragana henkan yen "
     "muhenkan katakanahiragana kp_comma kp_equals power sleep wake audionext "
     "audioprev audiostop audioplay audiomute volumeup volumedown mediaselect mail "
     "calculator computer ac_home ac_back ac_forward ac_refresh ac_bookmarks lang1 "
     "lang2"},
    {"KeyValueKind", "enum number qcode"},
    {"IntWrapper", "struct data:int"},
    {"QKeyCodeWrapper", "struct data:QKeyCode"},
    {"KeyValue", "union type type:KeyValueKind | number=IntWrapper qcode=QKeyCodeWrapper"},

    // Events
    {"ShutdownCause",
     "enum none host-error host-qmp-quit host-qmp-system-reset host-signal host-ui "
     "guest-shutdown guest-reset guest-panic subsystem-reset snapshot-load"},
    {"GuestPanicAction", "enum pause poweroff run"},
    {"IoOperationType", "enum read write"},
    {"BlockErrorAction", "enum ignore report stop"},
};

}  // namespace

std::span<const TypeDefinition> type_definitions() { return kDefinitions; }

}  // namespace wick::control
