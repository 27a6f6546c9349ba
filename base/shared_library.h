// Finds functions and variables of a library that is loaded with dlopen(3).
//
// Thread rule: any thread.
#pragma once

#include <dlfcn.h>

namespace wick {

// Sets `symbol`, a pointer, to the symbol `name` of `library`. Returns false if the library lacks
// it.
template <typename Pointer>
bool find_symbol(void* library, const char* name, Pointer& symbol) {
  symbol = reinterpret_cast<Pointer>(::dlsym(library, name));
  return symbol != nullptr;
}

}  // namespace wick
