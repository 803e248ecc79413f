//! The parent of decoding: takes an event apart into elements and branches; leaves read them.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use stamp_model::{Event, Readings};

use crate::body::{self, Buffers};
use crate::learned::{DecoderStats, Shapes};
use crate::notification::not_telemetry;
use crate::rejection::{Decoded, Fault, Rejection, RejectionCode, cut};
use crate::row::{check_required, push_row};
use crate::scan::Scan;
use crate::schema::Schema;
use crate::walk::{self, Scratch};

// A message must not be able to end the service: a panic becomes a rejection of that one event.
#[cfg(panic = "abort")]
compile_error!("the decoder catches panics: no profile may set `panic = \"abort\"`");

/// Decodes the events of one tenant. Holds working space, so each worker has its own.
#[derive(Debug)]
pub struct Decoder {
    schema: Arc<Schema>,
    buffers: Buffers,
    scratch: Scratch,
    /// `None` for a decoder that does not learn.
    shapes: Option<Shapes>,
}

impl Decoder {
    /// A decoder for events of the tenant whose schema this is.
    #[must_use]
    pub fn new(schema: Arc<Schema>) -> Self {
        Self {
            shapes: Some(Shapes::new()),
            ..Self::general(schema)
        }
    }

    /// The same without learned shapes: slower, with the same answer to every event. It is the
    /// reference that tests and benches compare with.
    #[must_use]
    pub fn general(schema: Arc<Schema>) -> Self {
        Self {
            schema,
            buffers: Buffers::default(),
            scratch: Scratch::default(),
            shapes: None,
        }
    }

    /// How often learned shapes helped so far. A device batch counts each element.
    #[must_use]
    pub fn stats(&self) -> DecoderStats {
        self.shapes
            .as_ref()
            .map_or_else(DecoderStats::default, |shapes| shapes.stats)
    }

    /// The schema that was given.
    #[must_use]
    pub fn schema(&self) -> &Arc<Schema> {
        &self.schema
    }

    /// Appends the readings of `event` to `into`, which was made for this schema's shape; gives
    /// their number, at least 1. An event is all or nothing: one bad element rejects it whole.
    ///
    /// A panic inside is caught: that is a fault of this crate, and the event is rejected with
    /// [`RejectionCode::DecoderPanic`] so that the others go on.
    ///
    /// The time of the row is bounded by [`Event::enqueued_at_us`]. `late` is left `false`.
    ///
    /// # Errors
    /// The [`Rejection`] that belongs in the tenant's `rejected` table; `into` has the rows that
    /// it had before. Only texts may have been added to its dictionaries.
    pub fn decode(&mut self, event: &Event, into: &mut Readings) -> Result<usize, Rejection> {
        if !event.hub.source.is_telemetry() {
            return Err(not_telemetry(event));
        }
        let Some(device_id) = &event.hub.device_id else {
            let message = "the hub stamped no device id on this event";
            return Err(Fault::new(RejectionCode::NoDevice, message).into());
        };
        let rows_before = into.len();
        // Unwind safe: what a panic may leave half-written is dropped or cut back below.
        let read = catch_unwind(AssertUnwindSafe(|| self.read(event, device_id, into)));
        let fault = match read {
            Ok(Ok(())) => return Ok(into.len() - rows_before),
            Ok(Err(fault)) => fault,
            Err(payload) => {
                self.forget();
                panicked(payload.as_ref())
            }
        };
        into.truncate(rows_before);
        Err(fault.into())
    }

    fn read(&mut self, event: &Event, device_id: &str, into: &mut Readings) -> Decoded<()> {
        let Self {
            schema,
            buffers,
            scratch,
            shapes,
        } = self;
        let mut elements = Elements {
            schema,
            event,
            scratch,
            shapes: shapes.as_mut(),
            device: into.devices.intern(device_id),
            into,
            count: 0,
        };
        let outcome = elements.read(buffers);
        buffers.shrink();
        outcome
    }

    /// Drops all working space and every learned shape.
    #[cold]
    fn forget(&mut self) {
        self.buffers = Buffers::default();
        self.scratch = Scratch::default();
        if let Some(shapes) = &mut self.shapes {
            shapes.forget();
        }
    }
}

/// The fault of an event that the decoder itself could not stand.
#[cold]
fn panicked(payload: &(dyn Any + Send)) -> Box<Fault> {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| payload.downcast_ref::<&str>().copied());
    let message = format!(
        "the decoder panicked: {}",
        cut(text.unwrap_or("no message"))
    );
    Fault::new(RejectionCode::DecoderPanic, message)
}

/// The elements of one event on their way into the columns.
struct Elements<'a> {
    schema: &'a Schema,
    event: &'a Event,
    scratch: &'a mut Scratch,
    shapes: Option<&'a mut Shapes>,
    into: &'a mut Readings,
    /// Key of the event's device in the buffer.
    device: u32,
    count: usize,
}

impl Elements<'_> {
    fn read(&mut self, buffers: &mut Buffers) -> Decoded<()> {
        let text = body::text(self.event, &self.schema.limits, buffers)?;
        let mut scan = Scan { text, at: 0 };
        scan.skip_space();
        match scan.peek() {
            None => Err(Fault::new(
                RejectionCode::EmptyBody,
                "the body is only white space",
            )),
            Some(b'{') => self.read_lines(scan),
            Some(b'[') => self.read_array(scan),
            Some(_) => Err(not_an_object(scan)),
        }
    }

    /// One object, or one on each line.
    fn read_lines(&mut self, mut scan: Scan<'_>) -> Decoded<()> {
        loop {
            scan.at = self.element(scan)?;
            let end = scan.at;
            scan.skip_space();
            if scan.peek().is_none() {
                return Ok(());
            }
            if !scan.slice(end, scan.at).contains('\n') {
                return Err(scan.malformed("the end of the body or a new line"));
            }
        }
    }

    fn read_array(&mut self, mut scan: Scan<'_>) -> Decoded<()> {
        scan.at += 1;
        scan.skip_space();
        if scan.peek() == Some(b']') {
            return Err(Fault::new(
                RejectionCode::EmptyBody,
                "the array has no elements",
            ));
        }
        loop {
            scan.at = self.element(scan)?;
            scan.skip_space();
            match scan.peek() {
                Some(b',') => scan.at += 1,
                Some(b']') => break,
                _ => return Err(scan.malformed("`,` or `]`")),
            }
            scan.skip_space();
        }
        scan.at += 1;
        scan.skip_space();
        match scan.peek() {
            None => Ok(()),
            Some(_) => Err(scan.malformed("the end of the body")),
        }
    }

    /// Reads the element that starts here; gives the byte after it.
    fn element(&mut self, scan: Scan<'_>) -> Decoded<usize> {
        let max = self.schema.limits.batch_max;
        if self.count == max {
            let message = format!("more than {max} elements");
            return Err(Fault::new(RejectionCode::TooManyElements, message)
                .at(scan.at)
                .rule("limits.batch-max"));
        }
        let end = self
            .read_element(scan)
            .map_err(|fault| self.in_element(scan, fault))?;
        self.count += 1;
        Ok(end)
    }

    fn read_element(&mut self, scan: Scan<'_>) -> Decoded<usize> {
        if scan.peek() != Some(b'{') {
            return Err(not_an_object(scan));
        }
        let known = self.shapes.as_mut().and_then(|shapes| {
            shapes.read(self.schema, scan.text, scan.at, self.device, self.scratch)
        });
        let end = match known {
            Some(end) => end,
            None => walk::read_element(self.schema, scan.text, scan.at, self.scratch)?,
        };
        check_required(self.schema, &self.scratch.cells)?;
        push_row(
            self.schema,
            self.event,
            self.device,
            scan.text,
            self.scratch,
            self.into,
        );
        #[cfg(feature = "faults")]
        self.schema.panic_if_asked(&scan.text[scan.at..end]);
        if let (None, Some(shapes)) = (known, &mut self.shapes) {
            shapes.learn(self.schema, scan.text, scan.at, self.device);
        }
        Ok(end)
    }

    /// Names the element, unless the body is plainly one object.
    #[cold]
    fn in_element(&self, scan: Scan<'_>, fault: Box<Fault>) -> Box<Fault> {
        let text = scan.text.trim();
        let lines = text.contains("}\n") || text.contains("}\r\n");
        if self.count > 0 || lines || text.starts_with('[') {
            fault.element(self.count)
        } else {
            fault
        }
    }
}

/// The fault of a value that is there instead of an object: well-formed, or not even that.
#[cold]
fn not_an_object(scan: Scan<'_>) -> Box<Fault> {
    let what = match scan.peek() {
        Some(b'"') => "a string",
        Some(b'-' | b'0'..=b'9') => "a number",
        Some(b't' | b'f') => "true or false",
        Some(b'n') => "null",
        Some(b'[') => "an array",
        _ => return scan.malformed("`{` or `[`"),
    };
    let message = format!("expected an object with readings, found {what}");
    Fault::new(RejectionCode::NotAnObject, message).at(scan.at)
}
