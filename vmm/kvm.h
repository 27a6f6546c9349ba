// /dev/kvm: opens it and checks its version and capabilities (Documentation/virt/kvm/api.rst).
#pragma once

#include <linux/kvm.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/fd.h"
#include "base/result.h"

namespace wick::vmm {

// The layout of kvm_cpuid2 and kvm_msrs: a count, followed by entries. The header's own structures
// cannot be used: some end in __DECLARE_FLEX_ARRAY, whose size differs between C++ and C, so that
// the numbers of their ioctls would be wrong.
template <typename Entry, size_t kMax>
struct KvmList {
  uint32_t count = 0;
  uint32_t padding = 0;
  std::array<Entry, kMax> entries{};
};
constexpr size_t kMaxCpuidEntries = 256;  // KVM_MAX_CPUID_ENTRIES in the kernel
using KvmCpuid = KvmList<kvm_cpuid_entry2, kMaxCpuidEntries>;
static_assert(offsetof(KvmCpuid, entries) == 8);
constexpr unsigned long kKvmGetSupportedCpuid = _IOC(_IOC_READ | _IOC_WRITE, KVMIO, 0x05, 8);
constexpr unsigned long kKvmGetMsrs = _IOC(_IOC_READ | _IOC_WRITE, KVMIO, 0x88, 8);
constexpr unsigned long kKvmSetMsrs = _IOC(_IOC_WRITE, KVMIO, 0x89, 8);
constexpr size_t kXsaveRegionBytes = 4096;  // struct kvm_xsave in C
constexpr unsigned long kKvmGetXsave = _IOC(_IOC_READ, KVMIO, 0xa4, kXsaveRegionBytes);
constexpr unsigned long kKvmSetXsave = _IOC(_IOC_WRITE, KVMIO, 0xa5, kXsaveRegionBytes);
constexpr unsigned long kKvmGetXsave2 = _IOC(_IOC_READ, KVMIO, 0xcf, kXsaveRegionBytes);
constexpr unsigned long kKvmSetCpuid2 = _IOC(_IOC_WRITE, KVMIO, 0x90, 8);

class Kvm {
 public:
  // Opens /dev/kvm and checks the API version and all capabilities that wick needs. The error
  // names what is missing.
  static Result<Kvm> open();

  int fd() const { return fd_.get(); }
  // The value of KVM_CHECK_EXTENSION; 0 if the capability is absent.
  int capability(unsigned long capability) const;
  uint32_t max_cpus() const;
  size_t run_area_bytes() const { return run_area_bytes_; }

  // True on hosts with AMD's SVM, where KVM resets a vCPU after a triple fault before user space
  // sees its registers. Intel's VMX keeps the registers.
  static bool resets_on_shutdown();

  // KVM_GET_SUPPORTED_CPUID
  Result<std::vector<kvm_cpuid_entry2>> supported_cpuid() const;

 private:
  Kvm(Fd fd, size_t run_area_bytes) : fd_(std::move(fd)), run_area_bytes_(run_area_bytes) {}

  Fd fd_;
  size_t run_area_bytes_;
};

// The properties of /dev/kvm, for wick doctor.
struct KvmFacts {
  struct Capability {
    const char* name = "";
    const char* use = nullptr;  // what happens without the capability; nullptr: wick needs it
    bool present = false;
  };

  int open_error = 0;     // errno of open(2); 0: success
  int api_version = 0;    // negative: the file is not KVM's
  int machine_error = 0;  // errno of KVM_CREATE_VM; 0: success
  std::vector<Capability> capabilities;
};
KvmFacts probe_kvm();

}  // namespace wick::vmm
