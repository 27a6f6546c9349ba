#include "virtio/fuse_session.h"

#include <algorithm>

#include "virtio/fuse_call.h"

namespace wick::virtio {

namespace {

using std::chrono::seconds;

constexpr uint32_t kMinMinor = 31;     // Linux 5.4, the first with virtio-fs
constexpr uint32_t kServedMinor = 31;  // later versions add only features that FUSE_INIT negotiates

// The features that the session implements. Locks are not among them, so the guest's kernel manages
// the locks of its own processes. HANDLE_KILLPRIV_V2 saves the client a request before each write.
constexpr uint32_t kFeatures = FUSE_ASYNC_READ | FUSE_ATOMIC_O_TRUNC | FUSE_BIG_WRITES |
                               FUSE_DO_READDIRPLUS | FUSE_READDIRPLUS_AUTO | FUSE_PARALLEL_DIROPS |
                               FUSE_MAX_PAGES | FUSE_HANDLE_KILLPRIV_V2;

// With these features, the guest's kernel checks ACLs, and the host applies the umask to new files.
// The guest cannot apply the umask, because a default ACL of the directory overrides it.
constexpr uint32_t kAclFeatures = FUSE_POSIX_ACL | FUSE_DONT_MASK | FUSE_SETXATTR_EXT;

uint32_t features(FuseCache cache) {
  switch (cache) {
    case FuseCache::kAuto:
      return kFeatures | FUSE_AUTO_INVAL_DATA;
    case FuseCache::kAlways:
      return kFeatures | FUSE_CACHE_SYMLINKS;
    case FuseCache::kNever:
      break;
  }
  return kFeatures;
}

seconds valid_time(FuseCache cache) {
  switch (cache) {
    case FuseCache::kAuto:
      return seconds(1);
    case FuseCache::kAlways:
      return std::chrono::days(1);
    case FuseCache::kNever:
      break;
  }
  return seconds(0);
}

}  // namespace

FuseSession::FuseSession(share::Tree& tree, FuseCache cache)
    : tree_(tree), cache_(cache), valid_(valid_time(cache)) {}

FuseSession::Handler FuseSession::handler_of(uint32_t opcode) {
  using S = FuseSession;
  switch (opcode) {
    case FUSE_LOOKUP:
      return &S::lookup;
    case FUSE_FORGET:
      return &S::forget;
    case FUSE_GETATTR:
      return &S::get_attributes;
    case FUSE_SETATTR:
      return &S::set_attributes;
    case FUSE_READLINK:
      return &S::read_link;
    case FUSE_SYMLINK:
      return &S::symbolic_link;
    case FUSE_MKNOD:
      return &S::make_node;
    case FUSE_MKDIR:
      return &S::make_directory;
    case FUSE_UNLINK:
      return &S::unlink;
    case FUSE_RMDIR:
      return &S::remove_directory;
    case FUSE_RENAME:
      return &S::rename;
    case FUSE_LINK:
      return &S::link;
    case FUSE_OPEN:
      return &S::open;
    case FUSE_READ:
      return &S::read;
    case FUSE_WRITE:
      return &S::write;
    case FUSE_STATFS:
      return &S::file_system;
    case FUSE_RELEASE:
    case FUSE_RELEASEDIR:
      return &S::release;
    case FUSE_FSYNC:
    case FUSE_FSYNCDIR:
      return &S::sync;
    case FUSE_SETXATTR:
      return &S::set_xattr;
    case FUSE_GETXATTR:
      return &S::get_xattr;
    case FUSE_LISTXATTR:
      return &S::list_xattrs;
    case FUSE_REMOVEXATTR:
      return &S::remove_xattr;
    case FUSE_FLUSH:
      return &S::flush;
    case FUSE_INIT:
      return &S::init;
    case FUSE_OPENDIR:
      return &S::open_directory;
    case FUSE_READDIR:
    case FUSE_READDIRPLUS:
      return &S::read_directory;
    case FUSE_CREATE:
    case FUSE_TMPFILE:
      return &S::create;
    case FUSE_INTERRUPT:
      return &S::no_answer;
    case FUSE_DESTROY:
      return &S::destroy;
    case FUSE_BATCH_FORGET:
      return &S::batch_forget;
    case FUSE_FALLOCATE:
      return &S::allocate;
    case FUSE_RENAME2:
      return &S::rename2;
    case FUSE_LSEEK:
      return &S::seek;
    case FUSE_COPY_FILE_RANGE:
      return &S::copy_range;
    case FUSE_SYNCFS:
      return &S::sync_file_system;
    default:
      return nullptr;
  }
}

uint32_t FuseSession::handle(std::span<const iovec> readable, std::span<const iovec> writable) {
  const auto request = FuseRequest::parse(readable);
  if (!request) return 0;
  const FuseReply reply(writable);
  Call call{*request, reply, request->arguments()};
  if (request->too_long) return call.error(E2BIG);
  const Handler handler = handler_of(request->header.opcode);
  if (handler == nullptr) return call.error(ENOSYS);
  // The first request of a client must be FUSE_INIT.
  if (!started_ && request->header.opcode != FUSE_INIT) return call.error(EIO);
  return (this->*handler)(call);
}

void FuseSession::reset() {
  started_ = false;
  acls_ = false;
  tree_.reset();
}

// Resets the session, because a client that sends FUSE_INIT again has lost all its references.
uint32_t FuseSession::init(Call& call) {
  constexpr size_t kSizeBeforeFlags2 = 16;
  fuse_init_in in;
  if (!call.arguments.take_prefix(in, kSizeBeforeFlags2)) return call.error(EINVAL);
  fuse_init_out out{};
  out.major = FUSE_KERNEL_VERSION;
  out.minor = kServedMinor;
  // A client with a newer major version then sends FUSE_INIT again, with wick's version.
  if (in.major > FUSE_KERNEL_VERSION) return call.structures(out);
  if (in.major < FUSE_KERNEL_VERSION || in.minor < kMinMinor) return call.error(EPROTO);
  reset();
  if (tree_.has_acls()) acls_ = (in.flags & kAclFeatures) == kAclFeatures;
  out.max_readahead = in.max_readahead;
  out.flags = in.flags & (features(cache_) | (acls_ ? kAclFeatures : 0));
  out.max_background = 64;
  out.congestion_threshold = 48;
  out.max_write = kMaxWriteBytes;
  out.time_gran = 1;
  out.max_pages = kMaxPages;
  started_ = true;
  return call.structures(out);
}

// FUSE_DESTROY is the last request of a client that unmounts. The next mount begins with FUSE_INIT.
uint32_t FuseSession::destroy(Call& call) {
  reset();
  return call.error(0);
}

// FUSE_FORGET has no answer; neither have FUSE_BATCH_FORGET and FUSE_INTERRUPT.
uint32_t FuseSession::forget(Call& call) {
  fuse_forget_in in;
  if (call.arguments.take(in)) tree_.forget(call.node(), in.nlookup);
  return 0;
}

uint32_t FuseSession::batch_forget(Call& call) {
  fuse_batch_forget_in in;
  if (!call.arguments.take(in)) return 0;
  fuse_forget_one one;
  for (uint32_t i = 0; i < in.count && call.arguments.take(one); ++i)
    tree_.forget(share::NodeId{one.nodeid}, one.nlookup);
  return 0;
}

// FUSE_INTERRUPT is ignored: the protocol allows the interrupted request to be executed anyway.
uint32_t FuseSession::no_answer(Call&) { return 0; }

}  // namespace wick::virtio
