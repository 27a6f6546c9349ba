#include "cli/curl.h"

#include "base/mutex.h"
#include "base/shared_library.h"

namespace wick::cli {

namespace {

// Debian has two builds of libcurl, which wick can both use: one with OpenSSL, and one with GnuTLS,
// which git and other packages depend on.
constexpr const char* kLibrary = "libcurl.so.4";
constexpr const char* kGnutlsLibrary = "libcurl-gnutls.so.4";

struct Loaded {
  Mutex mutex;
  CurlLibrary library GUARDED_BY(mutex);
};

Result<CurlLibrary> load() {
  void* library = ::dlopen(kLibrary, RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    const std::string reason = ::dlerror();
    library = ::dlopen(kGnutlsLibrary, RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr)
      return with_hint(fail("download: {}", reason), "install the package libcurl4");
  }
  CurlLibrary curl;
  decltype(&::curl_global_init) initialize = nullptr;
  if (!find_symbol(library, "curl_global_init", initialize) ||
      !find_symbol(library, "curl_easy_init", curl.create) ||
      !find_symbol(library, "curl_easy_cleanup", curl.destroy) ||
      !find_symbol(library, "curl_easy_reset", curl.reset) ||
      !find_symbol(library, "curl_easy_setopt", curl.set_option) ||
      !find_symbol(library, "curl_easy_perform", curl.perform) ||
      !find_symbol(library, "curl_easy_getinfo", curl.get_info) ||
      !find_symbol(library, "curl_easy_strerror", curl.describe) ||
      !find_symbol(library, "curl_slist_append", curl.append) ||
      !find_symbol(library, "curl_slist_free_all", curl.free_list) ||
      initialize(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
    (void)::dlclose(library);
    return with_hint(fail("download: {} cannot be used", kLibrary),
                     "install libcurl4, 7.85 or later");
  }
  return curl;
}

}  // namespace

Result<const CurlLibrary*> load_curl() {
  static Loaded loaded;
  const MutexLock lock(loaded.mutex);
  if (loaded.library.create == nullptr) loaded.library = TRY(load());
  return &loaded.library;
}

}  // namespace wick::cli
