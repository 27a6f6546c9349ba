// Races of vCPUs with the loop of the 82540EM: after a reset, or with a direction or the bus
// master bit off, the memory belongs to the guest again.
#include <atomic>
#include <random>
#include <semaphore>
#include <thread>

#include "tests/devices/e1000/fixture.h"
#include "tests/fakes/guest_ram.h"

namespace wick::devices {
namespace {

using namespace e1000;
using fakes::wait_for;

constexpr uint32_t kEnd = TransmitDescriptor::kEndOfPacket;
constexpr uint32_t kReport = TransmitDescriptor::kReportStatus;
constexpr uint32_t kSegment = TransmitDescriptor::kSegment;

// The back end calls a function of the test while a packet is being sent.
class E1000RaceTest : public testing::Test {
 protected:
  class Network final : public net::Backend {
   public:
    const std::string& name() const override { return name_; }
    Result<void> attach(EventLoop&, Events events) override {
      events_ = std::move(events);
      return {};
    }
    void detach() override { events_ = {}; }
    size_t receive(uint16_t, std::span<const iovec> buffers) override {
      if (to_receive == 0) return 0;
      --to_receive;
      interrupted();
      auto* const packet = static_cast<std::byte*>(buffers[0].iov_base);
      std::memset(packet, 0, sizeof(net::PacketHeader));
      std::memset(packet + sizeof(net::PacketHeader), 0x55, 100);
      return sizeof(net::PacketHeader) + 100;
    }
    void send(uint16_t, std::span<const iovec>) override {
      ++sent;
      interrupted();
    }

    std::function<void()> during;  // the next packet
    std::atomic<int> sent = 0;
    std::atomic<int> to_receive = 0;

   private:
    void interrupted() {
      if (const auto now = std::exchange(during, nullptr)) now();
    }
    const std::string name_ = "racing0";
    Events events_;
  };

  using Driver = fakes::E1000Driver;
  static constexpr uint64_t kRamBytes = 1 << 20;

  void set_bus_master(bool enabled) {
    const uint16_t command = enabled ? 1 << 2 : 0;
    card_->function().write_config(4, as_bytes(&command, sizeof(command)));
  }
  // Fills the transmit ring.
  void send_all() {
    driver_.start_transmitter();
    for (uint32_t i = 0; i + 1 < Driver::kDescriptors; ++i)
      driver_.put(Driver::legacy(Driver::kTransmitData, 100, kEnd | kReport));
    driver_.send();
  }

  const GuestMemory memory_ = fakes::memory_of(kRamBytes);
  Network network_;
  const std::unique_ptr<LoopThread> thread_ = LoopThread::start("net-test").value();
  fakes::CountingLine line_;
  const std::unique_ptr<E1000> card_ =
      E1000::create(network_, thread_->loop(), {2, 0, 0, 0, 0, 1}, memory_, line_, "eth0").value();
  Driver driver_{*card_, memory_};
};

TEST_F(E1000RaceTest, AResetInTheMiddleOfABatchEndsItAndWaitsForTheMemory) {
  std::binary_semaphore sending(0);
  std::binary_semaphore go_on(0);
  std::atomic<bool> reset_done = false;
  network_.during = [&] {
    sending.release();
    go_on.acquire();
  };
  send_all();
  sending.acquire();
  std::thread guest([&] {
    driver_.set(kCtrl, kReset);
    reset_done = true;
  });
  EXPECT_TRUE(wait_for([&] { return driver_.get(kTctl) == 0; }))
      << "registers answer while the loop is at work";
  EXPECT_FALSE(reset_done) << "the packet at hand is still being sent";
  go_on.release();
  guest.join();
  EXPECT_EQ(network_.sent, 1);
  EXPECT_EQ(driver_.get(kTdh), 0u) << "nothing of the old batch is left";
  EXPECT_EQ(driver_.get(kGptc), 0u);
  EXPECT_EQ(driver_.get(kIcr), 0u);
}

TEST_F(E1000RaceTest, TheMemoryIsTheGuestsAgainWhenTheReceiverIsOff) {
  std::binary_semaphore receiving(0);
  std::binary_semaphore go_on(0);
  network_.to_receive = 10;
  network_.during = [&] {
    receiving.release();
    go_on.acquire();
  };
  driver_.start_receiver(kUnicastPromiscuous | kMulticastPromiscuous);
  driver_.set(kRdt, Driver::kDescriptors - 1);
  receiving.acquire();
  std::thread guest([&] { driver_.set(kRctl, 0); });
  EXPECT_TRUE(wait_for([&] { return driver_.get(kRctl) == 0; }));
  go_on.release();
  guest.join();
  const auto ram = memory_.slice({0}, kRamBytes).value();
  std::memset(ram.data(), 0, ram.size());
  for (int i = 0; i < 3; ++i) thread_->loop().call([] {});
  EXPECT_TRUE(std::ranges::all_of(ram, [](std::byte b) { return b == std::byte{0}; }));
}

// PCI 3.0, 6.2.2: clearing Bus Master stops both directions; setting it continues them.
TEST_F(E1000RaceTest, TheMemoryIsTheGuestsAgainWithoutTheBusMasterBit) {
  std::binary_semaphore receiving(0);
  std::binary_semaphore go_on(0);
  network_.to_receive = 10;
  network_.during = [&] {
    receiving.release();
    go_on.acquire();
  };
  driver_.start_receiver(kUnicastPromiscuous | kMulticastPromiscuous);
  driver_.set(kRdt, Driver::kDescriptors - 1);
  receiving.acquire();
  std::atomic<bool> begun = false;
  std::atomic<bool> returned = false;
  std::thread guest([&] {
    begun = true;
    set_bus_master(false);
    returned = true;
  });
  EXPECT_TRUE(wait_for([&] { return begun.load(); }));
  // The write waits for the current packet, which the test holds up.
  EXPECT_FALSE(returned);
  go_on.release();
  guest.join();
  const int left = network_.to_receive;
  send_all();
  const auto ram = memory_.slice({0}, kRamBytes).value();
  const std::vector<std::byte> before(ram.begin(), ram.end());
  for (int i = 0; i < 10; ++i) thread_->loop().call([] {});
  EXPECT_TRUE(std::ranges::equal(ram, before));
  EXPECT_EQ(network_.to_receive, left);
  EXPECT_EQ(network_.sent, 0);
  set_bus_master(true);
  EXPECT_TRUE(wait_for([&] { return network_.to_receive == 0 && driver_.get(kRdh) == 10; }));
  EXPECT_TRUE(wait_for([&] { return driver_.get(kTdh) == Driver::kDescriptors - 1; }));
  EXPECT_EQ(network_.sent, static_cast<int>(Driver::kDescriptors) - 1) << "each once";
}

TEST_F(E1000RaceTest, TheBusMasterBitComesAndGoesUnderTraffic) {
  network_.to_receive = 1 << 30;
  driver_.start_receiver(kUnicastPromiscuous | kMulticastPromiscuous);
  send_all();
  // The tail may be the last descriptor of the ring.
  driver_.put(Driver::legacy(Driver::kTransmitData, 100, kEnd | kReport));
  for (uint32_t i = 0; i < 500; ++i) {
    driver_.set(kRdt, (driver_.get(kRdh) + Driver::kDescriptors - 1) % Driver::kDescriptors);
    driver_.set(kTdt, (driver_.get(kTdh) + Driver::kDescriptors - 1) % Driver::kDescriptors);
    set_bus_master(false);
    const uint32_t received = driver_.get(kRdh);
    const uint32_t sent = driver_.get(kTdh);
    thread_->loop().call([] {});
    EXPECT_EQ(driver_.get(kRdh), received);
    EXPECT_EQ(driver_.get(kTdh), sent);
    set_bus_master(true);
  }
  EXPECT_TRUE(wait_for([&] { return driver_.get(kTdh) == driver_.get(kTdt); }));
  EXPECT_TRUE(wait_for([&] { return driver_.get(kRdh) == driver_.get(kRdt); }));
  network_.to_receive = 0;
}

TEST_F(E1000RaceTest, WhatWasDoneBeforeTheTransmitterStoppedIsNotDoneAgain) {
  std::binary_semaphore sending(0);
  std::binary_semaphore go_on(0);
  network_.during = [&] {
    sending.release();
    go_on.acquire();
  };
  send_all();
  sending.acquire();
  std::thread guest([&] { driver_.set(kTctl, 0); });
  EXPECT_TRUE(wait_for([&] { return driver_.get(kTctl) == 0; }));
  go_on.release();
  guest.join();
  EXPECT_EQ(network_.sent, 1);
  EXPECT_EQ(driver_.get(kTdh), 1u);
  EXPECT_EQ(driver_.get(kGptc), 1u);
  driver_.set(kTctl, kTransmitEnable);
  EXPECT_TRUE(wait_for([&] { return network_.sent == Driver::kDescriptors - 1; }));
  EXPECT_TRUE(wait_for([&] { return driver_.get(kTdh) == Driver::kDescriptors - 1; }));
  EXPECT_EQ(network_.sent, static_cast<int>(Driver::kDescriptors) - 1);
}

TEST_F(E1000RaceTest, OneDirectionStopsWithoutTheOther) {
  std::binary_semaphore receiving(0);
  std::binary_semaphore go_on(0);
  network_.to_receive = 5;
  network_.during = [&] {
    receiving.release();
    go_on.acquire();
  };
  driver_.start_transmitter();
  driver_.start_receiver(kUnicastPromiscuous | kMulticastPromiscuous);
  driver_.set(kRdt, Driver::kDescriptors - 1);
  receiving.acquire();
  std::thread guest([&] {
    driver_.set(kTdh, 3);
    driver_.set(kTctl, 0);
  });
  EXPECT_TRUE(wait_for([&] { return driver_.get(kTctl) == 0; }));
  go_on.release();
  guest.join();
  EXPECT_TRUE(wait_for([&] { return driver_.get(kRdh) == 5; }));
  EXPECT_EQ(driver_.get(kGprc), 5u) << "each of them once";
}

TEST_F(E1000RaceTest, DescriptorsMayChangeWhileTheyAreServed) {
  std::atomic<bool> stop = false;
  driver_.start_transmitter();
  driver_.start_receiver(kUnicastPromiscuous | kMulticastPromiscuous);
  // The guest thread rewrites the descriptors while the card reads them.
  std::thread guest([&] {
    std::minstd_rand random(3);
    while (!stop) {
      const uint64_t ring = random() % 2 == 0 ? Driver::kTransmitRing : Driver::kReceiveRing;
      const auto at = memory_.slice({ring + 8 * (random() % 32)}, 8).value();
      const auto word = static_cast<uint64_t>(random()) | uint64_t{random()} << 24;
      std::atomic_ref(*reinterpret_cast<uint64_t*>(at.data())).store(word);
    }
  });
  for (int i = 0; i < 2000; ++i) {
    network_.to_receive = 4;
    driver_.set(kTdt, (driver_.get(kTdh) + 15) % 16);
    driver_.set(kRdt, (driver_.get(kRdh) + 15) % 16);
    if (i % 100 == 0) thread_->loop().call([] {});
  }
  stop = true;
  guest.join();
}

// All CPUs access registers while packets go in both directions.
TEST_F(E1000RaceTest, ServesAllCpusAtOnce) {
  driver_.lay_buffers();
  std::vector<std::thread> cpus;
  for (unsigned int seed = 0; seed < 3; ++seed)
    cpus.emplace_back([&, seed] {
      std::minstd_rand random(seed);
      for (int i = 0; i < 3000; ++i) {
        switch (random() % 8) {
          case 0:
            driver_.set(kIms, kCauses);
            break;
          case 1:
            (void)driver_.get(kIcr);
            break;
          case 2:
            driver_.set(kTdt, static_cast<uint32_t>(random()) % 16);
            break;
          case 3:
            driver_.set(kRdt, static_cast<uint32_t>(random()) % 16);
            break;
          case 4:
            if (random() % 8 == 0) driver_.set(kCtrl, kReset);
            break;
          case 5:
            driver_.start_transmitter();
            break;
          case 6:
            driver_.enable_receiver(kUnicastPromiscuous | kMulticastPromiscuous);
            break;
          default:
            driver_.set(kItr, static_cast<uint32_t>(random()) % 8);
            network_.to_receive = 4;
        }
      }
    });
  for (std::thread& cpu : cpus) cpu.join();
  driver_.set(kCtrl, kReset);
  network_.sent = 0;
  driver_ = Driver(*card_, memory_);
  send_all();
  EXPECT_TRUE(wait_for([&] { return network_.sent == Driver::kDescriptors - 1; }));
}

}  // namespace
}  // namespace wick::devices
