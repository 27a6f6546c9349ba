#include "boot/decompress.h"

#include <bzlib.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <lz4.h>
#include <lz4frame.h>
#include <lzma.h>
#include <lzo/lzo1x.h>
#include <zlib.h>
#include <zstd.h>

#include "tests/boot/kernel_files.h"

namespace wick::boot {
namespace {

using ::testing::HasSubstr;

const uint8_t* data_of(const Bytes& bytes) {
  return reinterpret_cast<const uint8_t*>(bytes.data());
}
uint8_t* data_of(Bytes& bytes) { return reinterpret_cast<uint8_t*>(bytes.data()); }

Bytes gzip(const Bytes& plain) {
  z_stream stream{};
  EXPECT_EQ(deflateInit2(&stream, 6, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY), Z_OK);
  Bytes packed(deflateBound(&stream, plain.size()));
  stream.next_in = const_cast<uint8_t*>(data_of(plain));
  stream.avail_in = static_cast<uInt>(plain.size());
  stream.next_out = data_of(packed);
  stream.avail_out = static_cast<uInt>(packed.size());
  EXPECT_EQ(deflate(&stream, Z_FINISH), Z_STREAM_END);
  packed.resize(stream.total_out);
  deflateEnd(&stream);
  return packed;
}

Bytes xz(const Bytes& plain) {
  Bytes packed(lzma_stream_buffer_bound(plain.size()));
  size_t size = 0;
  EXPECT_EQ(lzma_easy_buffer_encode(0, LZMA_CHECK_CRC32, nullptr, data_of(plain), plain.size(),
                                    data_of(packed), &size, packed.size()),
            LZMA_OK);
  packed.resize(size);
  return packed;
}

Bytes lzma(const Bytes& plain) {
  lzma_options_lzma options{};
  EXPECT_EQ(lzma_lzma_preset(&options, 0), 0);
  lzma_stream stream = LZMA_STREAM_INIT;
  EXPECT_EQ(lzma_alone_encoder(&stream, &options), LZMA_OK);
  Bytes packed(plain.size() + plain.size() / 8 + 1024);
  stream.next_in = data_of(plain);
  stream.avail_in = plain.size();
  stream.next_out = data_of(packed);
  stream.avail_out = packed.size();
  EXPECT_EQ(lzma_code(&stream, LZMA_FINISH), LZMA_STREAM_END);
  packed.resize(stream.total_out);
  lzma_end(&stream);
  return packed;
}

Bytes bzip2(const Bytes& plain) {
  Bytes packed(plain.size() + plain.size() / 64 + 1024);
  auto size = static_cast<unsigned>(packed.size());
  EXPECT_EQ(BZ2_bzBuffToBuffCompress(reinterpret_cast<char*>(packed.data()), &size,
                                     const_cast<char*>(reinterpret_cast<const char*>(plain.data())),
                                     static_cast<unsigned>(plain.size()), 1, 0, 0),
            BZ_OK);
  packed.resize(size);
  return packed;
}

void append(Bytes& to, const Bytes& more) { to.insert(to.end(), more.begin(), more.end()); }

void append_be(Bytes& to, uint32_t value) {
  for (int shift = 24; shift >= 0; shift -= 8) to.push_back(static_cast<std::byte>(value >> shift));
}

// As `lzop -9` writes it, with its checksums of 0, which wick does not compare.
Bytes lzo(const Bytes& plain) {
  constexpr size_t kBlock = 256 << 10;
  Bytes packed =
      to_bytes(std::string_view("\x89LZO\0\r\n\x1a\n\x10\x40\x20\xa0\x09\x40\x03\x09", 17));
  append_be(packed, 0x3000001);  // flags: Adler-32 of each block
  append(packed, Bytes(12));     // mode and time
  append(packed, Bytes(1 + 4));  // no name; checksum
  std::vector<uint8_t> work(LZO1X_1_MEM_COMPRESS);
  for (size_t start = 0; start < plain.size(); start += kBlock) {
    const size_t length = std::min(plain.size() - start, kBlock);
    Bytes block(length + length / 16 + 64 + 3);
    lzo_uint size = 0;
    EXPECT_EQ(lzo1x_1_compress(data_of(plain) + start, length, data_of(block), &size, work.data()),
              LZO_E_OK);
    if (size >= length) {
      block.assign(plain.begin() + static_cast<ptrdiff_t>(start),
                   plain.begin() + static_cast<ptrdiff_t>(start + length));
      size = length;
    }
    block.resize(size);
    append_be(packed, static_cast<uint32_t>(length));
    append_be(packed, static_cast<uint32_t>(size));
    append_be(packed, 0);
    append(packed, block);
  }
  append_be(packed, 0);
  return packed;
}

Bytes zstd(const Bytes& plain) {
  Bytes packed(ZSTD_compressBound(plain.size()));
  packed.resize(ZSTD_compress(packed.data(), packed.size(), plain.data(), plain.size(), 1));
  return packed;
}

Bytes lz4(const Bytes& plain) {
  Bytes packed(LZ4F_compressFrameBound(plain.size(), nullptr));
  packed.resize(
      LZ4F_compressFrame(packed.data(), packed.size(), plain.data(), plain.size(), nullptr));
  return packed;
}

Bytes lz4_legacy(const Bytes& plain) {
  Bytes packed = to_bytes("\x02\x21\x4c\x18");
  for (size_t start = 0; start < plain.size(); start += 8 * kMiB) {
    const auto length = static_cast<int>(std::min<size_t>(plain.size() - start, 8 * kMiB));
    Bytes block(4 + static_cast<size_t>(LZ4_compressBound(length)));
    const int size = LZ4_compress_default(reinterpret_cast<const char*>(plain.data() + start),
                                          reinterpret_cast<char*>(block.data() + 4), length,
                                          static_cast<int>(block.size()) - 4);
    store_le(std::span(block).first(4), size);
    block.resize(4 + static_cast<size_t>(size));
    append(packed, block);
  }
  return packed;
}

struct Format {
  const char* name;
  Bytes (*compress)(const Bytes&);
};

void PrintTo(const Format& format, std::ostream* out) { *out << format.name; }

class CompressedKernel : public ::testing::TestWithParam<Format> {
 protected:
  static Bytes compress(const Bytes& plain) { return GetParam().compress(plain); }
  static Result<InputFile> unpack(const Bytes& packed, uint64_t limit_bytes = 64 * kMiB) {
    return decompressed(input_file(packed, "packed"), limit_bytes);
  }
  static Bytes content(const InputFile& file) {
    Bytes bytes(file.size_bytes());
    EXPECT_TRUE(file.read(0, bytes));
    return bytes;
  }
  // Data that do not compress to almost nothing.
  static Bytes plain(size_t size) {
    Bytes bytes(size);
    for (size_t i = 0; i < size; ++i)
      bytes[i] = static_cast<std::byte>(i * i >> 7 ^ (i >> 20) * 0x35);
    return bytes;
  }
};

INSTANTIATE_TEST_SUITE_P(Formats, CompressedKernel,
                         ::testing::Values(Format{"gzip", gzip}, Format{"xz", xz},
                                           Format{"lzma", lzma}, Format{"bzip2", bzip2},
                                           Format{"lzo", lzo}, Format{"zstd", zstd},
                                           Format{"lz4", lz4}, Format{"lz4_legacy", lz4_legacy}),
                         [](const auto& test) { return test.param.name; });

TEST_P(CompressedKernel, IsLoadedAsIfItWerePlain) {
  const auto memory = memory_of(64 * kMiB);
  for (const Bytes& kernel : {BzImage().bytes(), ElfImage().bytes()}) {
    const auto loaded = unpack_and_load(
        memory, {input_file(compress(kernel), "kernel"), std::nullopt, "quiet", {}});
    ASSERT_TRUE(loaded) << message(loaded);
    EXPECT_EQ(*memory.read<uint8_t>({16 * kMiB}), 0xc3);
  }
}

TEST_P(CompressedKernel, ComesOutAsItWentIn) {
  for (const size_t size : {size_t{1}, size_t{100'000}, 8 * kMiB, 8 * kMiB + 1, 20 * kMiB}) {
    const auto file = unpack(compress(plain(size)));
    ASSERT_TRUE(file) << message(file);
    EXPECT_TRUE(content(*file) == plain(size)) << size;
  }
}

TEST_P(CompressedKernel, MayBeSeveralStreamsWithSomethingBehind) {
  Bytes packed = compress(plain(9 * kMiB));
  append(packed, compress(plain(1000)));
  Bytes whole = plain(9 * kMiB);
  append(whole, plain(1000));
  ASSERT_TRUE(unpack(packed));
  EXPECT_TRUE(content(*unpack(packed)) == whole);
  append(packed, to_bytes("tail"));  // Linux's build puts the size here
  ASSERT_TRUE(unpack(packed)) << message(unpack(packed));
  EXPECT_TRUE(content(*unpack(packed)) == whole);
}

TEST_P(CompressedKernel, ThatIsCutShortIsRefusedByName) {
  const Bytes packed = compress(plain(100'000));
  for (size_t length = 9; length < packed.size(); length += 1 + packed.size() / 50) {
    Bytes part = packed;
    part.resize(length);
    const auto file = unpack(part);
    ASSERT_FALSE(file) << length;
    EXPECT_THAT(
        file.error().message(),
        ::testing::ContainsRegex(
            "^packed: the (gzip|xz|lzma|bzip2|lzo|zstd|lz4) data are damaged or cut short; copy"));
  }
}

TEST_P(CompressedKernel, ThatIsDamagedIsRefusedOrTakenForAnother) {
  const Bytes packed = compress(plain(50'000));
  for (size_t at = 7; at < packed.size(); at += 1 + packed.size() / 200) {
    Bytes damaged = packed;
    damaged[at] ^= std::byte{0xff};
    if (const auto file = unpack(damaged); !file) {
      EXPECT_THAT(file.error().message(), HasSubstr("packed"));
    }
  }
}

TEST_P(CompressedKernel, ThatIsABombIsRefused) {
  const Bytes packed = compress(Bytes(32 * kMiB));
  EXPECT_THAT(message(unpack(packed, 16 * kMiB)), HasSubstr("data decompress to more than 16 MiB"));
  EXPECT_THAT(message(unpack(packed, 16 * kMiB + 4096)),
              HasSubstr("data decompress to more than 17 MiB"));
  EXPECT_EQ(message(unpack(packed, 32 * kMiB)), "");
  EXPECT_THAT(message(unpack(packed, 4096)), HasSubstr("too much for a kernel"));
}

TEST_P(CompressedKernel, IsNamedAsDecompressedWhenItIsNone) {
  const auto memory = memory_of(64 * kMiB);
  const Bytes packed = compress(to_bytes("070701, a cpio archive"));
  EXPECT_THAT(
      message(unpack_and_load(memory, {input_file(packed, "initrd.gz"), std::nullopt, "", {}})),
      HasSubstr("initrd.gz (decompressed): not a kernel, but a cpio archive (an initrd) of 22"));
  // A file that is compressed twice is refused.
  EXPECT_THAT(
      message(unpack_and_load(memory, {input_file(compress(packed), "k"), std::nullopt, "", {}})),
      HasSubstr("not a kernel"));
}

TEST(Decompressed, LeavesOtherFilesAlone) {
  const auto file = decompressed(input_file(to_bytes("\x1f"), "plain"));
  ASSERT_TRUE(file);
  EXPECT_EQ(file->name(), "plain");
  EXPECT_EQ(file->size_bytes(), 1u);
}

TEST(Decompressed, RefusesALegacyBlockThatClaimsMoreThanThereIs) {
  Bytes packed = to_bytes("\x02\x21\x4c\x18");
  for (const uint32_t claim : {9u << 20, 0xffff'ffffu, 100u}) {
    packed.resize(12);
    store_le(std::span(packed).subspan(4, 4), claim);
    EXPECT_THAT(message(decompressed(input_file(packed, "k"))), HasSubstr("the lz4 data are dam"));
  }
}

}  // namespace
}  // namespace wick::boot
