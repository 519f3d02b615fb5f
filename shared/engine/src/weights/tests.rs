use super::*;
use crate::layout::{PANEL64, PanelLayout, ROW_MAJOR};

/// One tensor a name, of zeros.
struct Zeros(Vec<(&'static str, Dtype, &'static str, Vec<usize>, usize)>);

impl Weights for Zeros {
    fn get(&self, name: &str) -> Result<Option<Tensor>, Error> {
        let found = self.0.iter().find(|(known, ..)| *known == name);
        Ok(found.map(|(_, dtype, layout, shape, len)| {
            let mut memory = Buffer::<f32>::default();
            memory.resize(len.div_ceil(4));
            let bytes = bytemuck::cast_slice::<f32, u8>(&memory)[..*len].to_vec();
            Tensor::in_memory("", *dtype, layout, shape.clone(), bytes.into())
        }))
    }
}

#[test]
fn a_layer_lies_as_its_kernel_set_reads_it() {
    static WIDE: PanelLayout = PanelLayout { tag: "groups-of-64", int8_group: 64 };
    let weights = |layout: &'static str, group: usize| {
        Zeros(vec![
            ("up.weight", Dtype::I8, layout, vec![3, 5], panel_len(3, 5, group)),
            ("up.scale", Dtype::F32, ROW_MAJOR, vec![PANEL], 4 * PANEL),
            ("up.offset", Dtype::I32, ROW_MAJOR, vec![PANEL], 4 * PANEL),
        ])
    };
    let portable = Kernel::by_name("portable").expect("runs everywhere");
    let wide = Kernel::reading(&WIDE);
    let load = |weights: &Zeros, kernel| Linear::load(weights, "up", 3, 5, kernel).map(drop);
    load(&weights(PANEL64, 4), portable).unwrap();
    load(&weights("groups-of-64", 64), wide).unwrap();
    load(&weights("groups-of-64", 4), wide).unwrap_err();
    for (layout, kernel, expected) in
        [("groups-of-64", portable, PANEL64), (PANEL64, wide, "groups-of-64")]
    {
        let told = load(&weights(layout, 64), kernel).unwrap_err().to_string();
        assert!(told.contains(layout) && told.contains(expected), "{told}");
    }
}
