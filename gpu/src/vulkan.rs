//! The devices that the Vulkan loader knows, with what ggml doesn't tell: whether one computes on the CPU, and its limits.
//! Structures follow vulkan_core.h 1.0, which is fixed.
use qwren_offload::message::{Kind, Refusal};
use std::ffi::{CStr, c_char, c_void};
use std::ptr::{null, null_mut};

/// A device.
#[derive(Debug, Clone)]
pub struct Physical {
    /// What it is.
    pub kind: Kind,
    /// Its description.
    pub description: String,
    /// The driver's version, and what it marks its shaders with.
    pub driver: String,
    /// Bytes of memory that the threads of a group share.
    pub shared_bytes: u32,
}

#[repr(C)]
struct InstanceCreateInfo {
    s_type: i32,
    next: *const c_void,
    flags: u32,
    application: *const c_void,
    layer_count: u32,
    layers: *const *const c_char,
    extension_count: u32,
    extensions: *const *const c_char,
}

/// VkPhysicalDeviceProperties as far as it is read, and room for the rest of its 824 bytes.
#[repr(C, align(8))]
struct Properties {
    api_version: u32,
    driver_version: u32,
    vendor: u32,
    device: u32,
    kind: u32,
    name: [c_char; 256],
    cache_uuid: [u8; 16],
    padding: u32,
    /// VkPhysicalDeviceLimits up to maxComputeSharedMemorySize.
    limits: [u32; 54],
    shared_bytes: u32,
    rest: [u32; 128],
}

const INSTANCE_CREATE_INFO: i32 = 1;
/// VK_SUCCESS and, where a list was cut short, VK_INCOMPLETE.
const SUCCESS: i32 = 0;
const INCOMPLETE: i32 = 5;
/// No machine has more.
const MOST: usize = 64;

#[link(name = "vulkan")]
unsafe extern "C" {
    fn vkCreateInstance(info: *const InstanceCreateInfo, allocator: *const c_void, instance: *mut *mut c_void) -> i32;
    fn vkDestroyInstance(instance: *mut c_void, allocator: *const c_void);
    fn vkEnumeratePhysicalDevices(instance: *mut c_void, count: *mut u32, devices: *mut *mut c_void) -> i32;
    fn vkGetPhysicalDeviceProperties(device: *mut c_void, properties: *mut Properties);
}

/// All devices, in the loader's order, which is the order of ggml's numbers.
///
/// # Errors
/// There is no driver.
pub fn devices() -> Result<Vec<Physical>, Refusal> {
    let none = || Refusal::new("no Vulkan driver found; install your GPU's (Debian: mesa-vulkan-drivers)");
    let info = InstanceCreateInfo {
        s_type: INSTANCE_CREATE_INFO,
        next: null(),
        flags: 0,
        application: null(),
        layer_count: 0,
        layers: null(),
        extension_count: 0,
        extensions: null(),
    };
    let mut instance = null_mut();
    // SAFETY: `info` is a whole VkInstanceCreateInfo without layers and extensions; `instance` is written on success.
    if unsafe { vkCreateInstance(&info, null(), &mut instance) } != SUCCESS {
        return Err(none());
    }
    let mut handles = [null_mut(); MOST];
    let mut count = MOST as u32;
    // SAFETY: `instance` lives; `handles` has room for `count` handles, and `count` becomes how many were written.
    let status = unsafe { vkEnumeratePhysicalDevices(instance, &mut count, handles.as_mut_ptr()) };
    let found = if status == SUCCESS || status == INCOMPLETE { &handles[..(count as usize).min(MOST)] } else { &[] };
    let devices: Vec<Physical> = found.iter().map(|&handle| properties(handle)).collect();
    // SAFETY: `instance` lives, and nothing that it made is used after this.
    unsafe { vkDestroyInstance(instance, null()) };
    if devices.is_empty() { Err(none()) } else { Ok(devices) }
}

fn properties(handle: *mut c_void) -> Physical {
    // SAFETY: zeros are integers.
    let mut p: Properties = unsafe { std::mem::zeroed() };
    // SAFETY: `handle` was enumerated and its instance lives; `p` has at least VkPhysicalDeviceProperties' size and alignment.
    unsafe { vkGetPhysicalDeviceProperties(handle, &mut p) };
    p.name[255] = 0;
    // SAFETY: the array ends with a zero.
    let name = unsafe { CStr::from_ptr(p.name.as_ptr()) };
    let kind = match p.kind {
        1 => Kind::Integrated,
        2 => Kind::Discrete,
        4 => Kind::Cpu,
        _ => Kind::Other,
    };
    let mark: String = p.cache_uuid.iter().map(|b| format!("{b:02x}")).collect();
    let driver = format!("{:x}-{mark}", p.driver_version);
    Physical { kind, description: name.to_string_lossy().into_owned(), driver, shared_bytes: p.shared_bytes }
}
