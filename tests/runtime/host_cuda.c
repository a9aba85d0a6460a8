// The calls of the CUDA driver that lad_edge makes, on host memory, for machines without a GPU. Each enqueued call is a
// line on stderr; LAD_TEST_GPU is the compute capability of the one GPU, such as 89, or an error of cuInit, such as
// -100.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int contexts = 0;
static char handle;

static int number(void) {
    const char* text = getenv("LAD_TEST_GPU");
    return text ? atoi(text) : 89;
}

static int note(const char* call) {
    fprintf(stderr, "%s\n", call);
    return contexts > 0 ? 0 : 201;  // CUDA_ERROR_INVALID_CONTEXT
}

int cuInit(unsigned flags) { return flags == 0 && number() < 0 ? -number() : 0; }
int cuDriverGetVersion(int* version) { return *version = 13010, 0; }
int cuDeviceGetCount(int* count) { return *count = 1, 0; }
int cuDeviceGet(int* device, int ordinal) { return *device = ordinal, ordinal == 0 ? 0 : 101; }
int cuDeviceGetName(char* name, int size, int device) { return snprintf(name, size, "Host GPU %d", device) < 0; }
int cuDeviceTotalMem_v2(size_t* bytes, int device) { return *bytes = (size_t)8 << 30, device; }
int cuDeviceGetAttribute(int* value, int attribute, int device) {
    return *value = attribute == 75 ? number() / 10 : attribute == 76 ? number() % 10 : 0, device;
}
int cuGetErrorString(int error, const char** text) { return *text = error == 2 ? "out of memory" : "an error", 0; }

int cuDevicePrimaryCtxRetain(void** context, int device) { return *context = &handle, device; }
int cuDevicePrimaryCtxRelease_v2(int device) { return device; }
int cuCtxDetach(void* context) { return context == &handle ? 0 : 201; }
int cuCtxPushCurrent_v2(void* context) { return contexts += 1, context == &handle ? 0 : 201; }
int cuCtxPopCurrent_v2(void** context) { return contexts -= 1, context ? (*context = &handle, 0) : 0; }
int cuCtxGetDevice(int* device) { return *device = 0, contexts > 0 ? 0 : 201; }
int cuCtxGetApiVersion(void* context, unsigned* version) { return *version = 13010, context == &handle ? 0 : 201; }

int cuMemAlloc_v2(uintptr_t* pointer, size_t bytes) {
    return bytes >> 33 ? 2 : (*pointer = (uintptr_t)malloc(bytes), contexts > 0 ? 0 : 201);
}
int cuMemFree_v2(uintptr_t pointer) { return free((void*)pointer), 0; }
int cuMemHostAlloc(void** pointer, size_t bytes, unsigned flags) { return *pointer = calloc(1, bytes), (int)flags; }
int cuMemFreeHost(void* pointer) { return free(pointer), 0; }
int cuMemHostRegister_v2(void* pointer, size_t bytes, unsigned flags) {
    fprintf(stderr, "lock %zu bytes\n", bytes);
    return getenv("LAD_TEST_NO_LOCKS") ? 2 : contexts == 0 ? 201 : !pointer || flags;
}
int cuMemHostUnregister(void* pointer) { return pointer ? note("unlock") : 1; }
int cuMemcpyHtoDAsync_v2(uintptr_t to, const void* from, size_t bytes, void* stream) {
    return memcpy((void*)to, from, bytes), stream == &handle ? note("upload") : 400;
}
int cuMemcpyDtoHAsync_v2(void* to, uintptr_t from, size_t bytes, void* stream) {
    return memcpy(to, (void*)from, bytes), stream == &handle ? note("download") : 400;
}
int cuMemsetD8Async(uintptr_t to, unsigned char value, size_t bytes, void* stream) {
    return memset((void*)to, value, bytes), stream == &handle ? note("clear") : 400;
}

int cuStreamCreate(void** stream, unsigned flags) { return *stream = &handle, flags == 1 ? 0 : 1; }
int cuStreamDestroy_v2(void* stream) { return stream == &handle ? 0 : 400; }
int cuStreamSynchronize(void* stream) { return stream == &handle ? note("synchronize") : 400; }
int cuStreamWaitEvent(void* stream, void* event, unsigned flags) {
    return stream && event && flags == 0 ? note("wait") : 400;
}
int cuEventCreate(void** event, unsigned flags) { return *event = &handle, (int)flags; }
int cuEventDestroy_v2(void* event) { return event == &handle ? 0 : 400; }
int cuEventRecord(void* event, void* stream) { return event && stream ? note("record") : 400; }
int cuEventSynchronize(void* event) { return event == &handle ? 0 : 400; }
int cuEventElapsedTime_v2(float* ms, void* from, void* to) { return *ms = 1.5f, from && to ? 0 : 400; }
int cuEventElapsedTime(float* ms, void* from, void* to) { return cuEventElapsedTime_v2(ms, from, to); }

int cuStreamBeginCapture_v2(void* stream, int mode) { return stream == &handle && mode == 1 ? note("capture") : 400; }
int cuStreamEndCapture(void* stream, void** graph) { return *graph = &handle, stream == &handle ? note("end") : 400; }
int cuGraphInstantiateWithFlags(void** executable, void* graph, unsigned long long flags) {
    return *executable = &handle, graph == &handle && flags == 0 ? note("instantiate") : 400;
}
int cuGraphLaunch(void* executable, void* stream) { return executable && stream ? note("launch") : 400; }
int cuGraphExecDestroy(void* executable) { return executable == &handle ? note("destroy executable") : 400; }
int cuGraphDestroy(void* graph) { return graph == &handle ? note("destroy graph") : 400; }
