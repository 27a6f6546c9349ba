#include "boot/unpacked_kernel.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <zlib.h>

#include "boot/boot_params.h"
#include "boot/bzimage.h"
#include "tests/boot/kernel_files.h"

namespace wick::boot {
namespace {

using ::testing::HasSubstr;

constexpr uint64_t kStart = Payload::kStart;
constexpr uint64_t kLink = Payload::kLink;

std::optional<UnpackedKernel> parse(const Bytes& bytes) {
  auto kernel = UnpackedKernel::parse(input_file(bytes, "payload"), kStart, "kernel");
  EXPECT_TRUE(kernel) << message(kernel);
  return kernel ? *std::move(kernel) : std::nullopt;
}

template <typename Word>
uint64_t word_at(const GuestMemory& memory, uint64_t address) {
  return *memory.read<Word>({address});
}

TEST(UnpackedKernel, LoadsItsSegments) {
  const auto kernel = parse(Payload().bytes());
  ASSERT_TRUE(kernel);
  EXPECT_EQ(kernel->memory_bytes(), 5 * kMiB);
  const auto memory = memory_of(64 * kMiB);
  const auto entry = kernel->load(memory, {32 * kMiB}, 0);
  ASSERT_TRUE(entry) << message(entry);
  EXPECT_EQ(entry->value, 32 * kMiB + 0x40);
  EXPECT_EQ(word_at<uint8_t>(memory, 32 * kMiB + 8191), 0xc3u);
  EXPECT_EQ(word_at<uint8_t>(memory, 32 * kMiB + 8192), 0u);
  EXPECT_EQ(word_at<uint8_t>(memory, 34 * kMiB + 4095), 0xc3u);
  EXPECT_EQ(word_at<uint64_t>(memory, 32 * kMiB + 0x100), kLink + kStart + 0x1234);
}

TEST(UnpackedKernel, RelocatesItselfAsLinuxDoes) {
  constexpr uint64_t kSlide = 0x1a00'0000;
  for (const bool two_lists : {false, true}) {
    Payload payload;
    if (two_lists) payload.with_two_lists();
    const auto kernel = parse(payload.bytes());
    ASSERT_TRUE(kernel);
    EXPECT_TRUE(kernel->can_slide());
    const auto memory = memory_of(64 * kMiB);
    ASSERT_TRUE(kernel->load(memory, {40 * kMiB}, kSlide));
    EXPECT_EQ(word_at<uint64_t>(memory, 40 * kMiB + 0x100), kLink + kStart + 0x1234 + kSlide);
    EXPECT_EQ(word_at<uint32_t>(memory, 40 * kMiB + 0x200), kStart + 0x80 + kSlide);
    EXPECT_EQ(word_at<uint32_t>(memory, 40 * kMiB + 0x204), 0u) << "only 4 bytes change";
    EXPECT_EQ(static_cast<int32_t>(word_at<uint32_t>(memory, 40 * kMiB + 0x300)),
              two_lists ? 0x5000 : 0x5000 - static_cast<int32_t>(kSlide));
  }
}

TEST(UnpackedKernel, WithoutRelocationsCannotSlide) {
  Payload payload;
  payload.relocations = {};
  const auto kernel = parse(payload.bytes());
  ASSERT_TRUE(kernel);
  EXPECT_FALSE(kernel->can_slide());
}

TEST(UnpackedKernel, LeavesWhatIsOddToItsOwnCode) {
  const auto odd = [](auto change) {
    Payload payload;
    change(payload);
    return !parse(payload.bytes()).has_value();
  };
  EXPECT_FALSE(odd([](Payload&) {}));
  EXPECT_TRUE(odd([](Payload& p) { p.elf.header.e_machine = EM_386; }));
  EXPECT_TRUE(odd([](Payload& p) { p.elf.header.e_ident[EI_CLASS] = ELFCLASS32; }));
  EXPECT_TRUE(odd([](Payload& p) { p.elf.header.e_phnum = 65; }));
  EXPECT_TRUE(odd([](Payload& p) { p.elf.header.e_phoff = 1ULL << 40; }));
  EXPECT_TRUE(odd([](Payload& p) { p.elf.header.e_entry = kStart - 1; }));
  EXPECT_TRUE(odd([](Payload& p) { p.elf.header.e_entry = kStart + 5 * kMiB; }));
  EXPECT_TRUE(odd([](Payload& p) {
    p.elf.header.e_shnum = 0xffff;
    p.elf.header.e_shentsize = 0xffff;
  }));
  EXPECT_TRUE(odd([](Payload& p) { p.elf.segments[0].address = kStart - 4096; }));
  EXPECT_TRUE(odd([](Payload& p) { p.elf.segments[1].address = UINT64_MAX; }));
  EXPECT_TRUE(odd([](Payload& p) { p.elf.segments[1].memory_bytes = 1ULL << 62; }));
  EXPECT_TRUE(odd([](Payload& p) { p.elf.segments[1].memory_bytes = 100; }))
      << "less than in the file";
  EXPECT_TRUE(odd([](Payload& p) { p.relocations = {1}; })) << "no zero first";
  EXPECT_TRUE(odd([](Payload& p) { p.relocations = {0, Payload::at(0)}; })) << "one list";
  EXPECT_TRUE(odd([](Payload& p) { p.relocations = {0, 0, 0, 0}; })) << "four lists";
  EXPECT_TRUE(odd([](Payload& p) { p.relocations = {0, 0, 0x1000}; })) << "outside";
  EXPECT_TRUE(odd([](Payload& p) { p.relocations.back() = Payload::at(5 * kMiB - 4); }));
  EXPECT_TRUE(odd([](Payload& p) { p.relocations.back() = Payload::at(-1); }));
  EXPECT_TRUE(odd([](Payload& p) {
    p.elf.header.e_entry = kStart;
    p.elf.segments = {{kStart, 4, 4}};
    p.relocations = {0, 0, Payload::at(0x10000)};
  })) << "smaller than a relocated word";
  Bytes bytes = Payload().bytes();
  bytes.push_back({});
  EXPECT_FALSE(parse(bytes)) << "half a relocation";
  EXPECT_FALSE(parse(to_bytes("short")));
}

TEST(UnpackedKernel, EndsAtAnyPlaceWithoutHarm) {
  const Bytes whole = Payload().bytes();
  for (size_t size = 1; size < whole.size(); size += size < 1024 ? 1 : 509)
    (void)parse({whole.begin(), whole.begin() + static_cast<ptrdiff_t>(size)});
}

Bytes gzip(const Bytes& plain) {
  z_stream stream{};
  EXPECT_EQ(deflateInit2(&stream, 6, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY), Z_OK);
  Bytes packed(deflateBound(&stream, plain.size()));
  stream.next_in = reinterpret_cast<uint8_t*>(const_cast<std::byte*>(plain.data()));
  stream.avail_in = static_cast<uInt>(plain.size());
  stream.next_out = reinterpret_cast<uint8_t*>(packed.data());
  stream.avail_out = static_cast<uInt>(packed.size());
  EXPECT_EQ(deflate(&stream, Z_FINISH), Z_STREAM_END);
  packed.resize(stream.total_out);
  deflateEnd(&stream);
  return packed;
}

// A bzImage with a payload. gzip ends with the unpacked size, as the format wants it.
struct PackedKernel {
  explicit PackedKernel(const Bytes& content) : payload(gzip(content)) {}

  BootFiles files(std::string cmdline) const {
    return {input_file(bzimage_with(payload, xloadflags), "bzImage"),
            std::nullopt,
            std::move(cmdline),
            {0xe0000}};
  }
  Result<BootImage> load(const GuestMemory& memory, std::string cmdline) const {
    return unpack_and_load(memory, files(std::move(cmdline)));
  }

  Bytes payload;
  uint16_t xloadflags = 0;
};

TEST(PackedKernel, StartsAtItsUsualPlaceWithNokaslr) {
  const auto memory = memory_of(64 * kMiB);
  const auto loaded = PackedKernel(Payload().bytes()).load(memory, "nokaslr");
  ASSERT_TRUE(loaded) << message(loaded);
  EXPECT_EQ(loaded->cpu.rip, kStart + 0x40);
  EXPECT_EQ(loaded->kernel_range.start.value, kStart);
  EXPECT_EQ(loaded->kernel_range.size_bytes, 5 * kMiB);
  const auto params = *memory.read<::boot_params>({loaded->cpu.rsi});
  EXPECT_EQ(params.hdr.loadflags & KASLR_FLAG, 0);
}

TEST(PackedKernel, StartsAtARandomPlaceAndSaysSo) {
  const PackedKernel packed(Payload().bytes());
  uint64_t places = 0;
  for (int i = 0; i < 20; ++i) {
    const auto memory = memory_of(256 * kMiB);
    const auto loaded = packed.load(memory, "");
    ASSERT_TRUE(loaded) << message(loaded);
    const uint64_t start = loaded->kernel_range.start.value;
    EXPECT_EQ(loaded->cpu.rip, start + 0x40);
    const uint64_t pointer = word_at<uint64_t>(memory, start + 0x100);
    const uint64_t slide = pointer - (kLink + kStart + 0x1234);
    EXPECT_EQ(slide % (2 * kMiB), 0u);
    const auto params = *memory.read<::boot_params>({loaded->cpu.rsi});
    EXPECT_EQ(params.hdr.loadflags & KASLR_FLAG, KASLR_FLAG);
    places |= start ^ pointer;
  }
  EXPECT_NE(places, 0u);
}

TEST(PackedKernel, StaysWhereItIsWithoutRelocations) {
  Payload payload;
  payload.relocations = {};
  const auto memory = memory_of(256 * kMiB);
  const auto loaded = PackedKernel(payload.bytes()).load(memory, "");
  ASSERT_TRUE(loaded) << message(loaded);
  EXPECT_EQ(loaded->cpu.rip, kStart + 0x40);
  EXPECT_EQ(memory.read<::boot_params>({loaded->cpu.rsi})->hdr.loadflags & KASLR_FLAG, 0);
}

TEST(PackedKernel, UnpacksItselfIfItNeedsMoreThanItsHeaderSays) {
  Payload payload;
  payload.elf.segments[1].memory_bytes = 7 * kMiB;  // init_size is 8 MiB
  const auto memory = memory_of(64 * kMiB);
  const auto loaded = PackedKernel(payload.bytes()).load(memory, "nokaslr");
  ASSERT_TRUE(loaded) << message(loaded);
  EXPECT_EQ(loaded->cpu.rip, kStart + 0x200);
}

TEST(PackedKernel, HasFiveLevelsOfPageTablesIfItAndTheCpusKnowThem) {
  constexpr uint64_t kLa57 = 1 << 12;
  PackedKernel packed(Payload().bytes());
  const auto cr4 = [&](bool cpus, const char* cmdline) {
    BootFiles files = packed.files(cmdline);
    files.five_level_paging = cpus;
    const auto loaded = unpack_and_load(memory_of(64 * kMiB), std::move(files));
    EXPECT_TRUE(loaded) << message(loaded);
    return loaded ? loaded->cpu.cr4 : 0;
  };
  packed.xloadflags = XLF_5LEVEL;
  EXPECT_EQ(cr4(true, "") & kLa57, 0u) << "built without CONFIG_X86_5LEVEL";
  packed.xloadflags = XLF_5LEVEL | XLF_5LEVEL_ENABLED;
  EXPECT_EQ(cr4(true, "") & kLa57, kLa57);
  EXPECT_EQ(cr4(true, "quiet no5lvl") & kLa57, 0u);
  EXPECT_EQ(cr4(false, "") & kLa57, 0u);
}

TEST(PackedKernel, ThatIsNoneOfLinuxsUnpacksItself) {
  const auto memory = memory_of(64 * kMiB);
  const auto loaded = PackedKernel(to_bytes("something else")).load(memory, "");
  ASSERT_TRUE(loaded) << message(loaded);
  EXPECT_EQ(loaded->cpu.rip, kStart + 0x200);
}

TEST(PackedKernel, ThatIsDamagedIsRefused) {
  const auto memory = memory_of(64 * kMiB);
  PackedKernel packed(Payload().bytes());
  packed.payload[packed.payload.size() / 2] ^= std::byte{0xff};
  EXPECT_THAT(message(packed.load(memory, "")),
              HasSubstr("bzImage: the gzip data are damaged or cut short; copy it again"));
}

TEST(PackedKernel, ThatLiesAboutItsSizeIsRefused) {
  const auto memory = memory_of(64 * kMiB);
  PackedKernel packed(Payload().bytes());
  // A bomb: more data than its size says.
  store_le(std::span(packed.payload).last(4), uint32_t{5000});
  EXPECT_THAT(message(packed.load(memory, "")), HasSubstr("bzImage: the gzip data"));
}

}  // namespace
}  // namespace wick::boot
