// oneDNN's convolutions as calls within XLA's CPU programs. models/onednn.py compiles this file and calls it.
//
// A call's attribute holds the whole geometry and no pointer, so a compiled program that is kept on disk works
// in the next process. XLA calls `instantiate` once for each call of a program, when it is compiled or loaded,
// and keeps the Plan that it returns until the program is dropped; `execute` may run on many threads at once.

#include <atomic>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <sstream>
#include <stdexcept>
#include <string>
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
constexpr size_t kAlignment = 64;  // bytes

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

// How many threads compute a convolution that is planned from now on: as many as OpenMP has at first, or fewer.
std::atomic<int>& threads() {
  static std::atomic<int> number{omp_get_max_threads()};
  return number;
}

// OpenMP's number of threads is a setting of each thread, which others change too. Of a convolution the room and the bits
// depend on it, so that it is planned and run with the same number.
class WithThreads {
 public:
  explicit WithThreads(int number) { omp_set_num_threads(number); }
  ~WithThreads() { omp_set_num_threads(before_); }

 private:
  const int before_ = omp_get_max_threads();
};

Owner strided(const std::vector<int64_t>& dims, const std::vector<int64_t>& strides, int type) {
  return MAKE(dnnl_memory_desc_destroy, dnnl_memory_desc_create_with_strides, int(dims.size()), dims.data(), type,
              strides.data());
}

Owner clone(const dnnl_object* desc) { return MAKE(dnnl_memory_desc_destroy, dnnl_memory_desc_clone, desc); }

Owner primitive_of(const Owner& desc) {
  return MAKE(dnnl_primitive_destroy, dnnl_primitive_create, static_cast<const dnnl_object*>(desc.get()));
}

size_t padded(size_t size) { return (size + kAlignment - 1) / kAlignment * kAlignment; }

// A convolution in oneDNN's own layout of the weights, and the copy of them from or to ours.
class Plan {
 public:
  inline static ffi::TypeId id = {};

  explicit Plan(const Geometry& g) : geometry(g) {
    const WithThreads same(threads_);
    const int type = g.bfloat16 ? kBfloat16 : kFloat32;
    const int64_t c = g.channels, o = g.features, kh = g.kernel[0], kw = g.kernel[1];
    const int64_t in = c / g.groups;
    x_ = strided({g.batch, c, g.height, g.width}, {g.height * g.width * c, 1, g.width * c, c}, type);
    y_ = strided({g.batch, o, g.out_height, g.out_width}, {g.out_height * g.out_width * o, 1, g.out_width * o, o}, type);
    std::vector<int64_t> dims{o, in, kh, kw}, strides{1, o, kw * in * o, in * o};
    if (g.groups > 1) {
      dims = {g.groups, o / g.groups, in, kh, kw};
      strides = {o / g.groups, 1, o, kw * in * o, in * o};
    }
    w_ = strided(dims, strides, type);
    Owner any = MAKE(dnnl_memory_desc_destroy, dnnl_memory_desc_create_with_tag, int(dims.size()), dims.data(), type,
                     kAnyTag);
    Owner desc = describe(any.get());
    const int what = g.pass == kToKernel ? kQueryWeightsGradient : kQueryWeights;
    own_w_ = clone(dnnl_primitive_desc_query_md(desc.get(), what, 0));
    scratchpad_ = clone(dnnl_primitive_desc_query_md(desc.get(), kQueryScratchpad, 0));
    convolution_ = primitive_of(desc);
    if (dnnl_memory_desc_equal(own_w_.get(), w_.get())) return;
    const bool back = g.pass == kToKernel;
    Owner copy = MAKE(dnnl_primitive_desc_destroy, dnnl_reorder_primitive_desc_create,
                      static_cast<const dnnl_object*>((back ? own_w_ : w_).get()), engine(),
                      static_cast<const dnnl_object*>((back ? w_ : own_w_).get()), engine(), dnnl_handle(nullptr));
    reorder_ = primitive_of(copy);
  }

  // Bytes of the room that a call needs besides its arguments and its result.
  size_t room() const {
    return padded(reorder_ ? dnnl_memory_desc_get_size(own_w_.get()) : 0) + dnnl_memory_desc_get_size(scratchpad_.get());
  }

  void execute(void* a, void* b, void* result, char* room) const {
    const WithThreads same(threads_);
    const bool to_input = geometry.pass == kToInput, to_kernel = geometry.pass == kToKernel;
    Owner x = memory(x_, to_input ? result : a), y = memory(y_, to_kernel ? b : (to_input ? a : result));
    Owner w = memory(w_, to_kernel ? result : b);
    Owner scratchpad = memory(scratchpad_, room + (reorder_ ? padded(dnnl_memory_desc_get_size(own_w_.get())) : 0));
    Owner own_w = reorder_ ? memory(own_w_, room) : Owner();
    dnnl_handle weights = own_w ? own_w.get() : w.get();
    if (reorder_ && !to_kernel) run(reorder_, {{kSource, w.get()}, {kTarget, weights}});
    run(convolution_, {{to_input ? kSourceGradient : kSource, x.get()},
                       {geometry.pass == kForward ? kTarget : kTargetGradient, y.get()},
                       {to_kernel ? kWeightsGradient : kWeights, weights},
                       {kScratchpad, scratchpad.get()}});
    if (reorder_ && to_kernel) run(reorder_, {{kSource, weights}, {kTarget, w.get()}});
  }

  const Geometry geometry;

 private:
  const int threads_ = threads();

  Owner describe(dnnl_handle w) const {
    const Geometry& g = geometry;
    const int64_t dilation[2] = {0, 0};
    Owner attr = make("dnnl_primitive_attr_create", dnnl_primitive_attr_destroy, dnnl_primitive_attr_create);
    check(dnnl_primitive_attr_set_scratchpad_mode(attr.get(), kUserScratchpad), "dnnl_primitive_attr");
    const dnnl_object *x = x_.get(), *y = y_.get(), *none = nullptr, *any = w;
    Owner forward = MAKE(dnnl_primitive_desc_destroy, dnnl_convolution_forward_primitive_desc_create, engine(), kTraining,
                         kDirect, x, any, none, y, g.stride, dilation, g.before, g.after, attr.get());
    if (g.pass == kForward) return forward;
    if (g.pass == kToInput)
      return MAKE(dnnl_primitive_desc_destroy, dnnl_convolution_backward_data_primitive_desc_create, engine(), kDirect, x,
                  any, y, g.stride, dilation, g.before, g.after, forward.get(), attr.get());
    return MAKE(dnnl_primitive_desc_destroy, dnnl_convolution_backward_weights_primitive_desc_create, engine(), kDirect,
                x, any, none, y, g.stride, dilation, g.before, g.after, forward.get(), attr.get());
  }

  static Owner memory(const Owner& desc, void* data) {
    return MAKE(dnnl_memory_destroy, dnnl_memory_create, static_cast<const dnnl_object*>(desc.get()), engine(), data);
  }

  static void run(const Owner& primitive, std::initializer_list<dnnl_argument> arguments) {
    check(dnnl_primitive_execute(primitive.get(), stream(), int(arguments.size()), arguments.begin()),
          "dnnl_primitive_execute");
  }

  Owner x_, y_, w_, own_w_, scratchpad_, convolution_, reorder_;
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

ffi::Error execute(Plan* plan, ffi::AnyBuffer a, ffi::AnyBuffer b, ffi::Result<ffi::AnyBuffer> result,
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
    plan->execute(a.untyped_data(), b.untyped_data(), result->untyped_data(),
                  reinterpret_cast<char*>(room->typed_data()));
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
                                  .Ctx<ffi::State<Plan>>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Ret<ffi::AnyBuffer>()
                                  .Ret<ffi::BufferR1<ffi::U8>>());

extern "C" const int* onednn_version() { return dnnl_version(); }

extern "C" int onednn_threads() { return threads(); }

extern "C" void onednn_set_threads(int number) { threads() = number; }

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
