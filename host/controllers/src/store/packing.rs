//! How the objects of a cache are kept while they are not read: as JSON that is compressed against the JSON of
//! another object like it. The pods of a workload differ in little, so one of them takes a few hundred bytes.

use std::sync::{Arc, Mutex, PoisonError};

use lz4_flex::block::{DecompressError, compress_with_dict, decompress_with_dict};

/// How many objects of a cache others are compressed against: each is kept as it is.
const SAMPLES: usize = 32;

/// Bytes of a sample: what is compressed refers to no more than these.
const SAMPLE_BYTES: usize = 64 << 10;

/// An object is compressed well enough if it has one byte of this many.
const GOOD: usize = 6;

/// How the objects of a cache are packed.
pub(super) struct Packing<K> {
    json: Option<ToJson<K>>,
    pub(super) samples: Samples,
}

/// Writes an object as it is read.
pub(super) type ToJson<K> = fn(&K) -> Option<Vec<u8>>;

impl<K> Packing<K> {
    /// No object is packed without a way to write it.
    pub(super) fn new(json: Option<ToJson<K>>) -> Self {
        Self {
            json,
            samples: Samples::default(),
        }
    }

    /// The JSON of an object.
    pub(super) fn json(&self, object: &K) -> Option<Vec<u8>> {
        self.json.and_then(|json| json(object))
    }
}

/// The objects against which those of one cache are compressed.
#[derive(Default)]
pub(super) struct Samples(Mutex<Vec<Arc<[u8]>>>);

/// A compressed object.
pub(super) struct Packed {
    bytes: Box<[u8]>,
    /// The number of bytes before it was compressed.
    length: usize,
    sample: Arc<[u8]>,
}

impl Samples {
    /// Compresses an object. One that is like no sample becomes one, while there is room.
    pub(super) fn pack(&self, json: &[u8]) -> Packed {
        let mut samples = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut best: Option<(usize, Vec<u8>)> = None;
        // Lists have the objects of a workload one after the other: the last sample that was good comes first.
        for (place, sample) in samples.iter().enumerate().rev() {
            let bytes = compress_with_dict(json, sample);
            let is_good = bytes.len() <= json.len() / GOOD;
            if is_good
                || best
                    .as_ref()
                    .is_none_or(|(_, best)| bytes.len() < best.len())
            {
                best = Some((place, bytes));
            }
            if is_good {
                break;
            }
        }
        let is_good = |bytes: &[u8]| bytes.len() <= json.len() / GOOD;
        let (place, bytes) = match best {
            Some((place, bytes)) if is_good(&bytes) || samples.len() >= SAMPLES => (place, bytes),
            _ => {
                let sample = &json[..json.len().min(SAMPLE_BYTES)];
                samples.push(sample.into());
                (samples.len() - 1, compress_with_dict(json, sample))
            }
        };
        let sample = samples.remove(place);
        samples.push(Arc::clone(&sample));
        Packed {
            bytes: bytes.into(),
            length: json.len(),
            sample,
        }
    }
}

impl Packed {
    /// The JSON of the object.
    pub(super) fn json(&self) -> Result<Vec<u8>, DecompressError> {
        decompress_with_dict(&self.bytes, self.length, &self.sample)
    }

    /// Bytes that it takes.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(workload: usize, number: usize) -> Vec<u8> {
        let name = format!("workload-{workload}-{number:05x}");
        let volumes: Vec<Value> = (0..workload % 7 + 5)
            .map(|volume| json!({"name": format!("volume-{workload}-{volume}"), "emptyDir": {}}))
            .collect();
        let pod = json!({
            "metadata": {"name": name, "uid": format!("{number:036x}")},
            "spec": {"volumes": volumes, "nodeName": format!("node-{}", number % 50)},
        });
        pod.to_string().into_bytes()
    }

    #[test]
    fn what_is_packed_is_read_back_and_those_of_a_workload_take_little() {
        let samples = Samples::default();
        let (mut packed_bytes, mut bytes) = (0, 0);
        for workload in 0..SAMPLES * 2 {
            for number in 0..20 {
                let json = pod(workload, number);
                let packed = samples.pack(&json);
                assert_eq!(packed.json().ok().as_deref(), Some(json.as_slice()));
                packed_bytes += packed.len();
                bytes += json.len();
            }
        }
        assert!(packed_bytes * 3 < bytes, "{packed_bytes} of {bytes} bytes");
        let kept = samples.0.lock().expect("no panic").len();
        assert!((2..=SAMPLES).contains(&kept), "{kept} samples");
    }

    #[test]
    fn bytes_of_any_kind_are_read_back() {
        let samples = Samples::default();
        let large = vec![0xFF; 100_000];
        for json in [&b""[..], b"{}", &large, b"{\"a\": 1}", b""] {
            assert_eq!(samples.pack(json).json().ok().as_deref(), Some(json));
        }
    }
}
