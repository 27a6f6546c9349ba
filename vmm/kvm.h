// /dev/kvm itself: is it there, is it new enough, what can it do
// (Documentation/virt/kvm/api.rst).
#pragma once

#include <linux/kvm.h>

#include <cstdint>
#include <vector>

#include "base/fd.h"
#include "base/result.h"

namespace wick {

class Kvm {
 public:
  // Opens /dev/kvm and checks the API version and every capability that wick
  // cannot do without; the error names what is missing.
  static Result<Kvm> open();

  int fd() const { return fd_.get(); }
  // The value of KVM_CHECK_EXTENSION: 0 when absent.
  int capability(unsigned long capability) const;
  uint32_t max_cpus() const;
  size_t run_area_bytes() const { return run_area_bytes_; }

  // KVM_GET_SUPPORTED_CPUID
  Result<std::vector<kvm_cpuid_entry2>> supported_cpuid() const;

 private:
  Kvm(Fd fd, size_t run_area_bytes) : fd_(std::move(fd)), run_area_bytes_(run_area_bytes) {}

  Fd fd_;
  size_t run_area_bytes_;
};

}  // namespace wick
