// Loads libcurl when the first file is downloaded, so that runs without --location do not pay
// for it and do not need it installed.
//
// Thread rule: load_curl() and libcurl's functions from any thread, but each handle belongs to one
// thread.
#pragma once

#include <curl/curl.h>

#include "base/result.h"

namespace wick::cli {

struct CurlLibrary {
  decltype(&::curl_easy_init) create = nullptr;
  decltype(&::curl_easy_cleanup) destroy = nullptr;
  decltype(&::curl_easy_reset) reset = nullptr;
  decltype(&::curl_easy_setopt) set_option = nullptr;
  decltype(&::curl_easy_perform) perform = nullptr;
  decltype(&::curl_easy_getinfo) get_info = nullptr;
  decltype(&::curl_easy_strerror) describe = nullptr;
  decltype(&::curl_slist_append) append = nullptr;
  decltype(&::curl_slist_free_all) free_list = nullptr;
};

// Loads the library at the first call; it stays loaded for the life of the process.
Result<const CurlLibrary*> load_curl();

}  // namespace wick::cli
