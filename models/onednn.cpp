// oneDNN's convolutions as calls within XLA's CPU programs. models/onednn.py compiles this file and calls it.
//
// A call's attribute holds the whole geometry and no pointer, so a compiled program that is kept on disk works
// in the next process. XLA calls `instantiate` once for each call of a program, when it is compiled or loaded,
// and keeps the Plan that it returns until the program is dropped; `execute` may run on many threads at once.
//
// A convolution is computed in shares of its batch, each by one of XLA's own threads and by oneDNN on that thread alone:
// threads of OpenMP beside XLA's are in their way, and wait for one another at the end of each loop.

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <initializer_list>
#include <exception>
#include <memory>
#include <mutex>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;

// What is used of oneDNN's C interface, version 3 (its package has no headers).
extern "C" {
typedef struct dnnl_object* dnnl_handle;
struct dnnl_argument {
  int kind;
  dnnl_handle memory;
};
const int* dnnl_version();  // major, minor, patch, ...
int omp_get_max_threads();  // of GNU's OpenMP, whose threads oneDNN uses
void omp_set_num_threads(int);
int dnnl_engine_create(dnnl_handle*, int kind, size_t index);
int dnnl_stream_create(dnnl_handle*, dnnl_handle engine, unsigned flags);
int dnnl_stream_destroy(dnnl_handle);
int dnnl_memory_desc_create_with_tag(dnnl_handle*, int rank, const int64_t* dims, int type, int tag);
int dnnl_memory_desc_create_with_strides(dnnl_handle*, int rank, const int64_t* dims, int type, const int64_t* strides);
int dnnl_memory_desc_clone(dnnl_handle*, const dnnl_object*);
int dnnl_memory_desc_destroy(dnnl_handle);
int dnnl_memory_desc_equal(const dnnl_object*, const dnnl_object*);
size_t dnnl_memory_desc_get_size(const dnnl_object*);
int dnnl_memory_create(dnnl_handle*, const dnnl_object* desc, dnnl_handle engine, void* data);
int dnnl_memory_destroy(dnnl_handle);
int dnnl_primitive_attr_create(dnnl_handle*);
int dnnl_primitive_attr_destroy(dnnl_handle);
int dnnl_primitive_attr_set_scratchpad_mode(dnnl_handle, int mode);
int dnnl_convolution_forward_primitive_desc_create(
    dnnl_handle*, dnnl_handle engine, int prop, int algorithm, const dnnl_object* x, const dnnl_object* w,
    const dnnl_object* bias, const dnnl_object* y, const int64_t* strides, const int64_t* dilates, const int64_t* before,
    const int64_t* after, dnnl_handle attr);
int dnnl_convolution_backward_data_primitive_desc_create(
    dnnl_handle*, dnnl_handle engine, int algorithm, const dnnl_object* x, const dnnl_object* w, const dnnl_object* y,
    const int64_t* strides, const int64_t* dilates, const int64_t* before, const int64_t* after, dnnl_handle hint,
    dnnl_handle attr);
int dnnl_convolution_backward_weights_primitive_desc_create(
    dnnl_handle*, dnnl_handle engine, int algorithm, const dnnl_object* x, const dnnl_object* w, const dnnl_object* bias,
    const dnnl_object* y, const int64_t* strides, const int64_t* dilates, const int64_t* before, const int64_t* after,
    dnnl_handle hint, dnnl_handle attr);
int dnnl_reorder_primitive_desc_create(
    dnnl_handle*, const dnnl_object* source, dnnl_handle engine, const dnnl_object* target, dnnl_handle, dnnl_handle attr);
int dnnl_primitive_desc_destroy(dnnl_handle);
const dnnl_object* dnnl_primitive_desc_query_md(const dnnl_object*, int what, int index);
int dnnl_primitive_create(dnnl_handle*, const dnnl_object*);
int dnnl_primitive_execute(dnnl_handle, dnnl_handle stream, int count, const dnnl_argument*);
int dnnl_primitive_destroy(dnnl_handle);
}

namespace {

constexpr int kCpu = 1, kAnyTag = 1, kDirect = 1, kTraining = 64, kUserScratchpad = 1;
constexpr int kFloat32 = 3, kBfloat16 = 2, kUnimplemented = 3;
constexpr int kSource = 1, kTarget = 17, kWeights = 33, kScratchpad = 80;  // arguments of a primitive
constexpr int kSourceGradient = 129, kTargetGradient = 145, kWeightsGradient = 161;
constexpr int kQueryWeights = 131, kQueryWeightsGradient = 132, kQueryScratchpad = 136;
constexpr size_t kAlignment = 64;                  // bytes
constexpr int64_t kWorthSharing = 2'000'000;  // products of a share, so that handing it over costs little of its time

enum Pass : int64_t { kForward, kToInput, kToKernel };

struct Geometry {  // in the order of the attribute, see models/onednn.py
  int64_t pass, bfloat16, batch, height, width, channels, features, out_height, out_width;
  int64_t kernel[2], stride[2], before[2], after[2], groups;

  static Geometry of(const int64_t* v, size_t size) {
    bool valid = size == 18 && 0 <= v[0] && v[0] <= 2 && 0 <= v[1] && v[1] <= 1 && v[17] > 0;
    for (size_t i = 2; valid && i < 17; ++i) valid = v[i] >= (i < 13 ? 1 : 0);  // from 13 on paddings
    if (!valid || v[5] % v[17] || v[6] % v[17]) {
      std::ostringstream text;
      text << "no geometry:";
      for (size_t i = 0; i < size; ++i) text << ' ' << v[i];
      throw std::invalid_argument(text.str());
    }
    return {v[0], v[1], v[2],           v[3],           v[4],           v[5],           v[6], v[7], v[8],
            {v[9], v[10]}, {v[11], v[12]}, {v[13], v[14]}, {v[15], v[16]}, v[17]};
  }

  size_t num_x() const { return size_t(batch * height * width * channels); }
  size_t num_y() const { return size_t(batch * out_height * out_width * features); }
  size_t num_w() const { return size_t(kernel[0] * kernel[1] * (channels / groups) * features); }

  std::string describe() const {
    static const char* names[] = {"convolve", "input_gradient", "kernel_gradient"};
    std::ostringstream text;
    text << names[pass] << " in " << (bfloat16 ? "bfloat16" : "float32") << " of x [" << batch << ", " << height << ", "
         << width << ", " << channels << "], y [" << batch << ", " << out_height << ", " << out_width << ", " << features
         << "], kernel " << kernel[0] << "x" << kernel[1] << ", stride " << stride[0] << "x" << stride[1] << ", padding "
         << before[0] << "+" << after[0] << " and " << before[1] << "+" << after[1] << ", " << groups << " groups";
    return text.str();
  }
};

struct Failure : std::runtime_error {
  int status;
  Failure(int status, const std::string& what) : std::runtime_error(what), status(status) {}
};

void check(int status, const char* name) {
  static const char* names[] = {"success", "out of memory", "invalid arguments", "unimplemented",
                                "last implementation", "runtime error", "not required"};
  if (status == 0) return;
  throw Failure(status, std::string(name) + ": " + (status > 0 && status < 7 ? names[status] : "unknown status"));
}

struct Destroy {
  int (*function)(dnnl_handle) = nullptr;
  void operator()(dnnl_handle handle) const { function(handle); }
};
using Owner = std::unique_ptr<dnnl_object, Destroy>;

template <class Function, class... Arguments>
Owner make(const char* name, int (*destroy)(dnnl_handle), Function create, Arguments... arguments) {
  dnnl_handle made = nullptr;
  check(create(&made, arguments...), name);
  return Owner(made, Destroy{destroy});
}
#define MAKE(destroy, create, ...) make(#create, destroy, create, __VA_ARGS__)

dnnl_handle engine() {  // one for the process, never destroyed: threads may still use it at exit
  static dnnl_handle made = MAKE(nullptr, dnnl_engine_create, kCpu, size_t{0}).release();
  return made;
}

dnnl_handle stream() {
  thread_local Owner made = MAKE(dnnl_stream_destroy, dnnl_stream_create, engine(), 1u);
  return made.get();
}

// In how many shares a convolution is computed that is planned from now on: as many as OpenMP has threads, or fewer.
std::atomic<int>& threads() {
  static std::atomic<int> number{omp_get_max_threads()};
  return number;
}

// OpenMP's number of threads is a setting of each thread, which others change too. The room that oneDNN asks for depends on
// it, so that a share is planned and run with the same number.
class OneThread {
 public:
  OneThread() { omp_set_num_threads(1); }
  ~OneThread() { omp_set_num_threads(before_); }

 private:
  const int before_ = omp_get_max_threads();
};

// Calls work(0) to work(count - 1), on XLA's threads and on this one, which waits for nothing but what another has begun:
// it may itself be one of XLA's, and all others busy.
template <class Work>
void in_parallel(ffi::ThreadPool& pool, int count, const Work& work) {
  struct Shared {
    std::atomic<int> next{0}, done{0};
    std::mutex lock;
    std::exception_ptr error;
  };
  auto shared = std::make_shared<Shared>();  // a thread may ask for work when all is done
  auto take = [shared, count, &work] {
    for (int i; (i = shared->next.fetch_add(1)) < count; shared->done.fetch_add(1)) {
      try {
        work(i);
      } catch (...) {
        const std::lock_guard<std::mutex> guard(shared->lock);
        shared->error = std::current_exception();
      }
    }
  };
  for (int i = 1; i < count; ++i) pool.Schedule(decltype(take)(take));
  take();
  while (shared->done.load() < count) std::this_thread::yield();
  if (shared->error) std::rethrow_exception(shared->error);
}

Owner strided(const std::vector<int64_t>& dims, const std::vector<int64_t>& strides, int type) {
  return MAKE(dnnl_memory_desc_destroy, dnnl_memory_desc_create_with_strides, int(dims.size()), dims.data(), type,
              strides.data());
}

Owner clone(const dnnl_object* desc) { return MAKE(dnnl_memory_desc_destroy, dnnl_memory_desc_clone, desc); }

Owner primitive_of(const Owner& desc) {
  return MAKE(dnnl_primitive_destroy, dnnl_primitive_create, static_cast<const dnnl_object*>(desc.get()));
}

size_t padded(size_t size) { return (size + kAlignment - 1) / kAlignment * kAlignment; }

Owner copy_of(const Owner& source, const Owner& target) {
  return primitive_of(MAKE(dnnl_primitive_desc_destroy, dnnl_reorder_primitive_desc_create,
                           static_cast<const dnnl_object*>(source.get()), engine(),
                           static_cast<const dnnl_object*>(target.get()), engine(), dnnl_handle(nullptr)));
}

Owner memory(const Owner& desc, const void* data) {
  return MAKE(dnnl_memory_destroy, dnnl_memory_create, desc.get(), engine(), const_cast<void*>(data));
}

size_t size_of(const Owner& desc) { return dnnl_memory_desc_get_size(desc.get()); }

void run(const Owner& primitive, std::initializer_list<dnnl_argument> arguments) {
  const OneThread alone;
  check(dnnl_primitive_execute(primitive.get(), stream(), int(arguments.size()), arguments.begin()),
        "dnnl_primitive_execute");
}

// A convolution of some examples of a batch, in a layout of the weights that is given or oneDNN's own.
class Share {
 public:
  Share(const Geometry& whole, int64_t batch, const dnnl_object* layout) : g(whole), batch(batch) {
    const int type = g.bfloat16 ? kBfloat16 : kFloat32;
    const int64_t c = g.channels, o = g.features;
    x_ = strided({batch, c, g.height, g.width}, {g.height * g.width * c, 1, g.width * c, c}, type);
    y_ = strided({batch, o, g.out_height, g.out_width}, {g.out_height * g.out_width * o, 1, g.out_width * o, o}, type);
    Owner desc = describe(layout);
    weights = clone(dnnl_primitive_desc_query_md(
        desc.get(), g.pass == kToKernel ? kQueryWeightsGradient : kQueryWeights, 0));
    scratchpad_ = clone(dnnl_primitive_desc_query_md(desc.get(), kQueryScratchpad, 0));
    convolution_ = primitive_of(desc);
  }

  size_t room() const { return padded(size_of(scratchpad_)); }

  void execute(const void* x, const void* y, const void* w, char* room) const {
    Owner xs = memory(x_, x), ys = memory(y_, y), ws = memory(weights, w), scratchpad = memory(scratchpad_, room);
    run(convolution_, {{g.pass == kToInput ? kSourceGradient : kSource, xs.get()},
                       {g.pass == kForward ? kTarget : kTargetGradient, ys.get()},
                       {g.pass == kToKernel ? kWeightsGradient : kWeights, ws.get()},
                       {kScratchpad, scratchpad.get()}});
  }

  const Geometry g;
  const int64_t batch;
  Owner weights;

 private:
  Owner describe(const dnnl_object* w) const {
    const int64_t dilation[2] = {0, 0};
    Owner attr = make("dnnl_primitive_attr_create", dnnl_primitive_attr_destroy, dnnl_primitive_attr_create);
    check(dnnl_primitive_attr_set_scratchpad_mode(attr.get(), kUserScratchpad), "dnnl_primitive_attr");
    const dnnl_object *x = x_.get(), *y = y_.get(), *none = nullptr;
    Owner forward = MAKE(dnnl_primitive_desc_destroy, dnnl_convolution_forward_primitive_desc_create, engine(), kTraining,
                         kDirect, x, w, none, y, g.stride, dilation, g.before, g.after, attr.get());
    if (g.pass == kForward) return forward;
    if (g.pass == kToInput)
      return MAKE(dnnl_primitive_desc_destroy, dnnl_convolution_backward_data_primitive_desc_create, engine(), kDirect, x,
                  w, y, g.stride, dilation, g.before, g.after, forward.get(), attr.get());
    return MAKE(dnnl_primitive_desc_destroy, dnnl_convolution_backward_weights_primitive_desc_create, engine(), kDirect,
                x, w, none, y, g.stride, dilation, g.before, g.after, forward.get(), attr.get());
  }

  Owner x_, y_, scratchpad_, convolution_;
};

// A convolution in shares of its batch. Their sizes differ by at most one.
class Plan {
 public:
  inline static ffi::TypeId id = {};

  explicit Plan(const Geometry& g) : geometry(g) {
    const OneThread alone;
    const int64_t c = g.channels, o = g.features, kh = g.kernel[0], kw = g.kernel[1];
    const int64_t in = c / g.groups, products = int64_t(g.num_y()) * kh * kw * in;
    count_ = int(std::clamp<int64_t>(products / kWorthSharing, 1, std::min<int64_t>(threads(), g.batch)));
    std::vector<int64_t> dims{o, in, kh, kw}, strides{1, o, kw * in * o, in * o};
    if (g.groups > 1) {
      dims = {g.groups, o / g.groups, in, kh, kw};
      strides = {o / g.groups, 1, o, kw * in * o, in * o};
    }
    w_ = strided(dims, strides, g.bfloat16 ? kBfloat16 : kFloat32);
    // What shares add to a kernel's gradient is added up in float32.
    const int type = g.bfloat16 && !(g.pass == kToKernel && count_ > 1) ? kBfloat16 : kFloat32;
    Owner any = MAKE(dnnl_memory_desc_destroy, dnnl_memory_desc_create_with_tag, int(dims.size()), dims.data(), type,
                     kAnyTag);
    large_ = std::make_unique<Share>(g, (g.batch + count_ - 1) / count_, any.get());
    const Owner& own = large_->weights;
    if (g.batch % count_) small_ = std::make_unique<Share>(g, g.batch / count_, own.get());
    const bool back = g.pass == kToKernel;
    if ((back && count_ > 1) || !dnnl_memory_desc_equal(own.get(), w_.get()))
      reorder_ = back ? copy_of(own, w_) : copy_of(w_, own);
  }

  // Bytes of the room that a call needs besides its arguments and its result: for weights in oneDNN's own layout, of each
  // share where they are its result, and for what a share needs.
  size_t room() const { return num_copies() * copy() + count_ * large_room(); }

  void execute(ffi::ThreadPool& pool, char* a, char* b, char* result, char* room) const {
    const bool to_input = geometry.pass == kToInput, to_kernel = geometry.pass == kToKernel;
    char *x = to_input ? result : a, *y = to_kernel ? b : (to_input ? a : result), *w = to_kernel ? result : b;
    char* own = reorder_ ? room : w;
    if (reorder_ && !to_kernel) move(w_, w, large_->weights, own);
    const size_t x_size = geometry.num_x() / geometry.batch * item(), y_size = geometry.num_y() / geometry.batch * item();
    const int num_large = small_ ? int(geometry.batch % count_) : count_;
    in_parallel(pool, count_, [&](int i) {
      const Share& share = i < num_large ? *large_ : *small_;
      const int64_t first = i * share.batch + (i < num_large ? 0 : num_large);
      share.execute(x + first * x_size, y + first * y_size, to_kernel && reorder_ ? own + i * copy() : own,
                    room + num_copies() * copy() + i * large_room());
    });
    if (!reorder_ || !to_kernel) return;
    add_up(reinterpret_cast<float*>(own));
    move(large_->weights, own, w_, w);
  }

  const Geometry geometry;

 private:
  size_t item() const { return geometry.bfloat16 ? 2 : 4; }
  size_t copy() const { return padded(size_of(large_->weights)); }
  size_t num_copies() const { return reorder_ ? (geometry.pass == kToKernel ? count_ : 1) : 0; }
  size_t large_room() const { return std::max(large_->room(), small_ ? small_->room() : 0); }

  void move(const Owner& source, const char* from, const Owner& target, char* to) const {
    Owner before = memory(source, from), after = memory(target, to);
    run(reorder_, {{kSource, before.get()}, {kTarget, after.get()}});
  }

  // Adds the later shares' gradients of the kernel to the first one's, in their order.
  void add_up(float* sums) const {
    const size_t size = size_of(large_->weights) / sizeof(float), distance = copy() / sizeof(float);
    for (int i = 1; i < count_; ++i)
      for (size_t j = 0; j < size; ++j) sums[j] += sums[i * distance + j];
  }

  int count_;
  Owner w_, reorder_;
  std::unique_ptr<Share> large_, small_;
};

std::string explain(const std::string& what, const Geometry& geometry) {
  return "oneDNN: " + what + ", " + geometry.describe();
}

ffi::ErrorOr<std::unique_ptr<Plan>> instantiate(ffi::Span<const int64_t> numbers) {
  try {
    const Geometry geometry = Geometry::of(numbers.begin(), numbers.size());
    try {
      return std::make_unique<Plan>(geometry);
    } catch (const std::exception& error) {
      return ffi::Unexpected(ffi::Error::Internal(explain(error.what(), geometry)));
    }
  } catch (const std::exception& error) {
    return ffi::Unexpected(ffi::Error::InvalidArgument(std::string("oneDNN: ") + error.what()));
  }
}

ffi::Error execute(ffi::ThreadPool pool, Plan* plan, ffi::AnyBuffer a, ffi::AnyBuffer b, ffi::Result<ffi::AnyBuffer> result,
                   ffi::Result<ffi::BufferR1<ffi::U8>> room) {
  const Geometry& g = plan->geometry;
  const auto type = g.bfloat16 ? ffi::BF16 : ffi::F32;
  const size_t x = g.num_x(), y = g.num_y(), w = g.num_w();
  if (a.element_type() != type || b.element_type() != type || result->element_type() != type ||
      a.element_count() != (g.pass == kToInput ? y : x) || b.element_count() != (g.pass == kToKernel ? y : w) ||
      result->element_count() != (g.pass == kForward ? y : (g.pass == kToInput ? x : w)))
    return ffi::Error::InvalidArgument(explain("arrays of another geometry", g));
  if (room->size_bytes() < plan->room())  // kept by another version of oneDNN
    return ffi::Error::Internal(explain("too little room", g));
  try {
    plan->execute(pool, static_cast<char*>(a.untyped_data()), static_cast<char*>(b.untyped_data()),
                  static_cast<char*>(result->untyped_data()), reinterpret_cast<char*>(room->typed_data()));
    return ffi::Error::Success();
  } catch (const std::exception& error) {
    return ffi::Error::Internal(explain(error.what(), g));
  }
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(onednn_instantiate, instantiate,
                              ffi::Ffi::BindInstantiate().Attr<ffi::Span<const int64_t>>("geometry"));
XLA_FFI_DEFINE_HANDLER_SYMBOL(onednn_execute, execute,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Ctx<ffi::State<Plan>>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Ret<ffi::AnyBuffer>()
                                  .Ret<ffi::BufferR1<ffi::U8>>());

extern "C" const int* onednn_version() { return dnnl_version(); }

extern "C" int onednn_threads() { return threads(); }

extern "C" void onednn_set_threads(int number) { threads() = std::max(number, 1); }

extern "C" XLA_FFI_TypeId* onednn_type_id() { return &Plan::id; }

extern "C" const XLA_FFI_TypeInfo* onednn_type_info() {
  static constexpr XLA_FFI_TypeInfo info = ffi::MakeTypeInfo<Plan>();
  return &info;
}

// Returns the bytes of room that a geometry needs, -1 where oneDNN has no such convolution, and -2 for an error, whose
// text goes to `message`.
extern "C" int64_t onednn_room(const int64_t* numbers, size_t size, char* message, size_t length) {
  std::string text;
  try {
    const Geometry geometry = Geometry::of(numbers, size);
    try {
      return static_cast<int64_t>(Plan(geometry).room());
    } catch (const Failure& failure) {
      if (failure.status == kUnimplemented) return -1;
      text = explain(failure.what(), geometry);
    }
  } catch (const std::exception& error) {
    text = std::string("oneDNN: ") + error.what();
  }
  message[text.copy(message, length - 1)] = 0;
  return -2;
}
