// Decodes PNG files with libpng, which is loaded at run time: no test is linked to it.
#pragma once

#include <dlfcn.h>
#include <png.h>

#include <cstdint>
#include <string>
#include <vector>

namespace wick::fakes {

struct PngImage {
  uint32_t width = 0;
  uint32_t height = 0;
  std::vector<uint32_t> pixels = {};  // 0x00RRGGBB; empty: no PNG file, a damaged one, or no libpng
  uint32_t format = 0;                // of the file: PNG_FORMAT_RGB, PNG_FORMAT_RGBA, ...
};

namespace png_details {

template <typename Function>
Function* of_libpng(const char* name) {
  static void* const library = ::dlopen("libpng16.so.16", RTLD_NOW);
  return library == nullptr ? nullptr : reinterpret_cast<Function*>(::dlsym(library, name));
}

}  // namespace png_details

inline PngImage decode_png(const std::string& bytes) {
  using png_details::of_libpng;
  const auto begin =
      of_libpng<decltype(::png_image_begin_read_from_memory)>("png_image_begin_read_from_memory");
  const auto finish = of_libpng<decltype(::png_image_finish_read)>("png_image_finish_read");
  png_image header{};
  header.version = PNG_IMAGE_VERSION;
  if (begin == nullptr || finish == nullptr || begin(&header, bytes.data(), bytes.size()) == 0)
    return {};
  PngImage image{header.width, header.height};
  image.format = header.format;
  header.format = PNG_FORMAT_RGB;
  std::vector<uint8_t> rgb(PNG_IMAGE_SIZE(header));
  if (finish(&header, nullptr, rgb.data(), 0, nullptr) == 0) return {};
  for (size_t i = 0; i + 2 < rgb.size(); i += 3)
    image.pixels.push_back(uint32_t{rgb[i]} << 16 | uint32_t{rgb[i + 1]} << 8 | rgb[i + 2]);
  return image;
}

}  // namespace wick::fakes
