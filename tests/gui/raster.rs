//! Draws the window into an image without a graphics card: triangles with the texture's colour times their corners',
//! blended in gamma space, as egui asks for. Slow and plain; the same on every machine but for the last bit of a corner.

use eframe::egui::epaint::{ClippedPrimitive, ImageData, Primitive, Vertex};
use eframe::egui::{Color32, ColorImage, Context, FullOutput, Pos2, Rect, TextureId, TexturesDelta, pos2};
use egui_kittest::TestRenderer;
use image::{Rgba, RgbaImage};
use std::collections::HashMap;

#[derive(Default)]
pub(crate) struct Raster {
    textures: HashMap<TextureId, ColorImage>,
}

impl TestRenderer for Raster {
    fn handle_delta(&mut self, delta: &mut TexturesDelta) {
        let mut set: Vec<_> = delta.set.drain().collect();
        set.sort_by_key(|(id, _)| format!("{id:?}"));
        for (id, delta) in set.into_iter().flat_map(|(id, deltas)| deltas.into_iter().map(move |delta| (id, delta))) {
            let ImageData::Color(patch) = &delta.image;
            match (delta.pos, self.textures.get_mut(&id)) {
                (Some([left, top]), Some(whole)) => {
                    let width = patch.size[0];
                    for (row, pixels) in patch.pixels.chunks_exact(width).enumerate() {
                        let at = (top + row) * whole.size[0] + left;
                        whole.pixels[at..at + width].copy_from_slice(pixels);
                    }
                }
                _ => drop(self.textures.insert(id, ColorImage::clone(patch))),
            }
        }
        for id in delta.free.drain() {
            self.textures.remove(&id);
        }
    }

    fn render(&mut self, ctx: &Context, output: &FullOutput) -> Result<RgbaImage, String> {
        let scale = ctx.pixels_per_point();
        let size = ctx.content_rect().size() * scale;
        let mut image = RgbaImage::new(size.x.round() as u32, size.y.round() as u32);
        for ClippedPrimitive { clip_rect, primitive } in ctx.tessellate(output.shapes.clone(), scale) {
            let Primitive::Mesh(mesh) = primitive else { return Err("a callback cannot be drawn here".into()) };
            let texture = self.textures.get(&mesh.texture_id).ok_or("a texture is missing")?;
            let clip = clip_rect * scale;
            let clip = Rect::from_min_max(clip.min.round(), clip.max.round());
            let clip = clip.intersect(Rect::from_min_size(Pos2::ZERO, size.round()));
            for corners in mesh.indices.chunks_exact(3) {
                let corners = [0, 1, 2].map(|i| {
                    let vertex = mesh.vertices[corners[i] as usize];
                    Vertex { pos: (vertex.pos.to_vec2() * scale).to_pos2(), ..vertex }
                });
                triangle(&mut image, clip, texture, corners);
            }
        }
        Ok(image)
    }
}

/// Twice the area of the triangle `a`, `b`, `c`, positive when it turns clockwise on the screen.
fn area(a: Pos2, b: Pos2, c: Pos2) -> f32 {
    (b.x - a.x) * (c.y - a.y) - (b.y - a.y) * (c.x - a.x)
}

fn triangle(image: &mut RgbaImage, clip: Rect, texture: &ColorImage, mut v: [Vertex; 3]) {
    let mut whole = area(v[0].pos, v[1].pos, v[2].pos);
    if whole < 0.0 {
        v.swap(1, 2);
        whole = -whole;
    }
    if whole < 1e-6 {
        return;
    }
    let bounds = Rect::from_points(&v.map(|v| v.pos)).intersect(clip);
    // A pixel that lies on an edge belongs to one of the two triangles that share it: the one above or left of it.
    let owns = |a: Pos2, b: Pos2| (a.y == b.y && b.x > a.x) || b.y < a.y;
    let edges = [(1, 2), (2, 0), (0, 1)].map(|(i, j)| (v[i].pos, v[j].pos));
    for y in bounds.top().floor().max(0.0) as u32..bounds.bottom().ceil().max(0.0) as u32 {
        for x in bounds.left().floor().max(0.0) as u32..bounds.right().ceil().max(0.0) as u32 {
            let at = pos2(x as f32 + 0.5, y as f32 + 0.5);
            if !clip.contains(at) {
                continue;
            }
            let weights = edges.map(|(a, b)| area(a, b, at));
            let inside = weights.iter().zip(edges).all(|(w, (a, b))| *w > 0.0 || (*w == 0.0 && owns(a, b)));
            if !inside {
                continue;
            }
            let mixed = |of: &dyn Fn(&Vertex) -> f32| (0..3).map(|i| of(&v[i]) * weights[i] / whole).sum::<f32>();
            let texel = sample(texture, mixed(&|v| v.uv.x), mixed(&|v| v.uv.y));
            let source: [f32; 4] =
                std::array::from_fn(|c| mixed(&|v| f32::from(v.color.to_array()[c])) * texel[c] / 255.0);
            let under = image.get_pixel_mut(x, y);
            let rest = 1.0 - source[3] / 255.0;
            *under = Rgba(std::array::from_fn(|c| (source[c] + f32::from(under.0[c]) * rest).round().min(255.0) as u8));
        }
    }
}

/// The texture's colour at `u`, `v` (0 to 1), between the four nearest texels.
fn sample(texture: &ColorImage, u: f32, v: f32) -> [f32; 4] {
    let [width, height] = texture.size;
    let (x, y) = (u * width as f32 - 0.5, v * height as f32 - 0.5);
    let (fx, fy) = (x - x.floor(), y - y.floor());
    let texel = |dx: f32, dy: f32| -> Color32 {
        let column = (x.floor() + dx).clamp(0.0, width as f32 - 1.0) as usize;
        let row = (y.floor() + dy).clamp(0.0, height as f32 - 1.0) as usize;
        texture.pixels[row * width + column]
    };
    let corners = [
        (texel(0.0, 0.0), (1.0 - fx) * (1.0 - fy)),
        (texel(1.0, 0.0), fx * (1.0 - fy)),
        (texel(0.0, 1.0), (1.0 - fx) * fy),
        (texel(1.0, 1.0), fx * fy),
    ];
    std::array::from_fn(|c| corners.iter().map(|(colour, part)| f32::from(colour.to_array()[c]) * part).sum())
}
